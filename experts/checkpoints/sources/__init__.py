"""Fills a new folder with a checkpoint in Hugging Face's layout, from each place that one can come from.

Imports what reads and writes checkpoints in the folder above, the modules of ``experts`` itself and
``experts.embedded``.
"""
