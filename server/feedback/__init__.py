"""Records decisions, outcomes and feedback, and exports them as training data.

May import config, errors, metrics, routing and storage.
"""
