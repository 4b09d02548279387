"""The wire format of the Responses API, and its translation to chat completions and back.

May import error_table, errors, model_request, transport and validation.
"""
