"""The configuration: strict pydantic models, one module a section; where things are.

May import storage and validation.
"""
