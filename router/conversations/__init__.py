"""Conversations: what a person asked in them, and what was decided before. May import the leaves."""
