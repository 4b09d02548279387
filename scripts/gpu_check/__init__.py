"""Checks on a card what was only read or run on CPU. May import experts and memory_tiers."""
