"""The verbs of ``coe bench``."""
