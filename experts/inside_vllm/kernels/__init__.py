"""CPU kernels that replace what vLLM would call."""
