"""Installs CPU kernels in place of those that vLLM would call.

Imports nothing of ours.
"""
