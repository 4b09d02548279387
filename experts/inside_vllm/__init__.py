"""What runs inside vLLM's own processes. Nothing here is imported by the gateway."""
