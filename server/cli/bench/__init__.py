"""The verbs of ``coe bench``. May import cli, cli.router, cli.tiers, config and planning."""
