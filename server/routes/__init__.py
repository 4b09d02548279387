"""FastAPI routers of the paths that no model answers."""
