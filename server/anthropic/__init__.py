"""Anthropic's Messages API over chat completions.

May import access, error_table, errors, exchange, model_request, services, transport and validation.
"""
