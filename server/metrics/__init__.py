"""Prometheus metrics of the gateway, the tiers and feedback. May import nothing else of the server."""
