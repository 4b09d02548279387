"""Records decisions, outcomes and feedback, and exports them as training data."""
