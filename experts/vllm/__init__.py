"""Runs real vLLM servers: interleaved, plain, LoRA and embedding engines.

Imports ``experts.engines``, ``experts.checkpoints`` and the modules of ``experts`` itself.
"""
