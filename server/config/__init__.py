"""The configuration: strict pydantic models, one module a section."""
