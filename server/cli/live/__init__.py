"""The verbs that show a running gateway: top, logs, explain. May import cli and cli.tiers."""
