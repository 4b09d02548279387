"""Examines a machine, its vLLM and a configuration, and says of each part what to do.

May import config, planning and routing.
"""
