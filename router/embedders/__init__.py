"""Embedders turn prompts into vectors. May import clients and the leaves."""
