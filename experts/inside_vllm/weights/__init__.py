"""Brings experts' weights to the device inside vLLM's workers."""
