"""The verbs of ``coe router``, one module each; sizes and graded are shared.

May import cli, cli.tiers, config, feedback and planning.
"""
