"""Ollama's API over chat completions, completions and embeddings.

May import access, config, error_table, errors, exchange, exchange.answer, exchange.engine, model_request,
openai, routes, services, transport and validation.
"""
