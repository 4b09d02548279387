"""Sockets, HTTP connections, bodies in and streams out.

May import config, error_table, errors, model_request and validation.
"""
