"""OpenAI's Responses API over chat completions, and the responses it keeps.

May import error_table, errors, exchange, exchange.engine, model_request, responses.kept, responses.wire,
services and transport.
"""
