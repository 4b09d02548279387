"""What every process of our engines does before vLLM does anything (entry point ``vllm.general_plugins``).

vLLM calls ``register`` in the API server, the engine core and each worker, of any vLLM in this environment:
it must do nothing in those that are not ours.
"""

import os

from experts.inside_vllm.parent_death_signal import ENGINE_VARIABLE, tether
from experts.vllm.command import VERIFIED


def register() -> None:
    server = os.environ.get(ENGINE_VARIABLE)
    if server is None:
        return
    if os.getpid() == int(server):  # tethered to the gateway before it started
        _fork_cores()
    else:
        tether()
    _avoid_amx()


def _fork_cores() -> None:
    from vllm.platforms import current_platform
    from vllm.version import __version__

    if current_platform.is_cpu() and __version__.startswith(VERIFIED):
        from experts.inside_vllm import forked_core

        forked_core.install()


def _avoid_amx() -> None:
    """Some virtual CPUs advertise AMX that gives garbage or an illegal instruction; bf16 does without."""
    import torch

    torch.cpu._is_amx_tile_supported = lambda: False
