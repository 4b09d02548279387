"""OpenAI's batches and files: keeps them, and runs batches.

May import access, config, error_table, errors, exchange, exchange.answer, exchange.engine, model_request,
resilience, routing, services, storage and transport.
"""
