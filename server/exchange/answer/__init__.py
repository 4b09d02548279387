"""Parts of an answer: headers, tokens counted, signs of life.

May import access, model_request, routing, services and transport.
"""
