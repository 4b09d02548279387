"""Finds, fetches, converts, checks and describes the weights of experts.

Imports the modules of ``experts`` itself and ``experts.embedded``; its folder ``sources`` imports what reads
and writes checkpoints here, and ``prepare`` imports ``sources``.
"""
