"""Decides, inside vLLM's engine core, which expert a step computes for.

Imports nothing of ours.
"""
