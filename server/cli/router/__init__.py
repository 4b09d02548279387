"""The verbs of ``coe router``."""
