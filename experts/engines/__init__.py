"""The engine seam, the proof of an engine, and what engine processes share: processes, HTTP over Unix
sockets.

Imports ``experts.checkpoints`` and the modules of ``experts`` itself.
"""
