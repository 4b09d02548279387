"""Prompts to learn from: read, cleaned, split, and imported from traffic. May import the leaves."""
