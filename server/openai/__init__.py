"""OpenAI's endpoints that a model answers: chat, completions, embeddings, tokens."""
