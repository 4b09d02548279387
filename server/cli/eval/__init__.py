"""The verbs of ``coe eval``: benchmarks that a composition enters as a contestant, through a gateway.

May import cli, cli.router and config.
"""
