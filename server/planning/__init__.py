"""Plans a configuration: what its families ask of a node's GPUs, and its settings as planned.

May import config.
"""
