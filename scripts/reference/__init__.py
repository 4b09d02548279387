"""Writes the documentation's generated pages: the module map and the reference."""
