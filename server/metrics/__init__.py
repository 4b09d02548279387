"""Prometheus metrics of the gateway, the tiers and feedback."""
