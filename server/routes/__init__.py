"""FastAPI routers of the paths that no model answers.

May import access, batches, error_table, errors, responses.kept, responses.wire, services and transport.
"""
