"""Reads checkpoints in object stores and on web servers, through fsspec.

Imports the modules of ``experts`` itself.
"""
