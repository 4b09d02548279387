"""The path of one request, however it comes: admit, route, lease, stream, release.

May import access, config, error_table, errors, exchange.answer, exchange.engine, feedback, log_fields,
model_request, observation, peers, resilience, routing, services, tracing and transport.
"""
