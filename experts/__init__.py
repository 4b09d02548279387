"""Describes experts, prepares their checkpoints, and runs the engines that compute with them.

``spec``, ``errors``, ``progress``, ``vllm_seams``, ``vllm_version`` and ``embedded`` import no other folder
of ours. Above them, each importing only those before it: ``memory``, ``checkpoints``, ``engines``, ``vllm``,
``simulated``. Beside ``engines`` stand ``footprint``, which imports ``checkpoints``, and ``inside_vllm``,
which imports ``memory`` and ``checkpoints.tensor_headers``.
"""
