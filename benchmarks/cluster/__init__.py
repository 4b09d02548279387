"""Measures several nodes, all of them on this machine, over simulated engines."""
