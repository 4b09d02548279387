"""The configuration: strict pydantic models, one module a section. May import nothing else of the server."""
