"""The verbs of ``coe tiers`` and ``coe reload``."""
