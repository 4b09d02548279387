"""Maps categories to experts under parameter budgets, and scores such maps."""
