"""The verbs of ``coe router``, one module each; sizes and graded are shared. May import router's packages."""
