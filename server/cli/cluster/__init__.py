"""The verbs of ``coe cluster``. May import cli, cli.tiers, config, fleet and operator_api."""
