"""OpenAI's batches and files: what they store, and the service that runs them.

May import access, config, error_table, errors, exchange, model_request, resilience, routing, services,
storage and transport.
"""
