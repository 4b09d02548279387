"""Proposes a configuration for checkpoints, and proves that it could be served before it is written.

May import config, engine_factory, planning and routing.
"""
