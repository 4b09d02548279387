"""The verbs of ``coe tiers`` and ``coe reload``. May import cli, config and operator_api."""
