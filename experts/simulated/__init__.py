"""A simulated engine for development, tests and load tests of the gateway.

Imports ``experts.engines``, the client side of ``experts.vllm`` and the modules of ``experts`` itself.
"""
