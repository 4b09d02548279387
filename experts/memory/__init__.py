"""Finds out what memory the machine and its shared-memory folder have for us.

Imports ``experts.errors``.
"""
