"""Figures what a model takes on a GPU, from its config.json and headers alone: no GPU, no torch, no weights.

The formulas' sources stand in their docstrings. What is assumed is called so; nothing here was measured on a
GPU. Imports ``experts.errors``, ``experts.spec`` and ``experts.checkpoints``.
"""
