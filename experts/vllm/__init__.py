"""Runs real vLLM servers: interleaved, plain, LoRA and embedding engines."""
