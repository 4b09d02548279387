"""OpenAI's Responses API over chat completions, and the responses it keeps.

May import access, config, error_table, errors, exchange, model_request, services, storage, transport and
validation.
"""
