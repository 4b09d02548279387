"""Finds, fetches, converts, checks and describes the weights of experts."""
