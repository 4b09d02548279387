"""HTTP clients of OpenAI-compatible endpoints for judging and embedding."""
