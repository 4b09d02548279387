"""Decides whose step it is inside vLLM's engine core."""
