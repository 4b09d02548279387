"""Looks through checkpoints that nobody has described yet: what each is, and which can share an engine.

Imports ``experts.checkpoints``, ``experts.footprint`` and the modules of ``experts`` itself.
"""
