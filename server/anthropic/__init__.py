"""Anthropic's Messages API over chat completions.

May import access, error_table, errors, exchange, exchange.answer, exchange.engine, model_request, services,
transport and validation.
"""
