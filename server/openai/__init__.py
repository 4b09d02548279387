"""OpenAI's endpoints that a model answers: chat, completions, embeddings, tokens.

May import access, errors, exchange, model_request, routing, services and transport.
"""
