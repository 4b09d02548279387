"""Runs inside vLLM's own processes: scheduler, executor, worker, and what is done before vLLM starts.

Imports ``experts.errors``, ``experts.vllm_version``, ``experts.memory`` and ``checkpoints.tensor_headers``.
The gateway imports nothing of it but ``scheduling.turns``, which is pure.
"""
