"""Describes experts, prepares their checkpoints, and runs the engines that compute with them.

``spec``, ``errors``, ``progress``, ``vllm_version`` and ``embedded`` import no other folder of ours. Above
them, each importing only those before it: ``memory``, ``checkpoints``, ``engines``, ``vllm``, ``simulated``;
``inside_vllm`` stands beside ``engines`` and imports ``memory`` and ``checkpoints.tensor_headers``.
"""
