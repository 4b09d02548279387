"""What every process of our engines does before vLLM does anything (entry point ``vllm.general_plugins``).

vLLM calls ``register`` in the API server, the engine core and each worker, of any vLLM in this environment:
it must do nothing in those that are not ours.
"""

import os

from experts.inside_vllm.tether import ENGINE_VARIABLE, tether


def register() -> None:
    server = os.environ.get(ENGINE_VARIABLE)
    if server is None:
        return
    if os.getpid() != int(server):  # the API server was tethered to the gateway before it started
        tether()
    _avoid_amx()


def _avoid_amx() -> None:
    """Some virtual CPUs advertise AMX that gives garbage or an illegal instruction; bf16 does without."""
    import torch

    torch.cpu._is_amx_tile_supported = lambda: False
