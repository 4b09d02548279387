"""The verbs of ``coe cluster``. May import cli."""
