"""FastAPI routers of the paths that no model answers.

May import access, batches, config, error_table, errors, live, log_fields, observation, operator_api,
peers, reload, responses.kept, responses.wire, services and transport.
"""
