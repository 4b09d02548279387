"""Prompts to learn from: read, cleaned, split, imported. May import conversations and the leaves."""
