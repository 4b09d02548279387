"""Maps from categories to experts under budgets, evaluated. May import classifiers, data and the leaves."""
