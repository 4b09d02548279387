"""OpenAI's batches and files: what they store, and the service that runs them."""
