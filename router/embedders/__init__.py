"""Turns prompts into vectors."""
