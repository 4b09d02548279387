"""The verbs of ``coe cluster``. May import cli, cli.tiers and operator_api."""
