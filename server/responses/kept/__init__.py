"""Keeps responses, and the events of those that are being made.

May import access, config, error_table, errors, responses.wire, storage and transport.
"""
