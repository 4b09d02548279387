"""HTTP clients of OpenAI-compatible endpoints, for judging and embedding. May import the leaves."""
