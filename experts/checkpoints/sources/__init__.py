"""Fills a new folder with a checkpoint in Hugging Face's layout, from each place that one can come from.

Imports ``experts.spec``, ``errors``, ``progress``, ``embedded`` and what reads and writes checkpoints in the
folder above.
"""
