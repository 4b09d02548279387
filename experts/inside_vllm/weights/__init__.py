"""Brings experts' weights to the device, inside vLLM's workers.

Imports ``inside_vllm.kernels``, ``experts.errors``, ``experts.memory`` and ``checkpoints.tensor_headers``.
"""
