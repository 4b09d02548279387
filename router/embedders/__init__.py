"""Embedders turn prompts into vectors. May import artifacts, clients and the leaves."""
