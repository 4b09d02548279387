"""Prepares every process of our engines before vLLM does anything (entry point ``vllm.general_plugins``).

vLLM calls ``register`` in the API server, the engine core and each worker, of any vLLM in this environment:
it must do nothing in those that are not ours.
"""

import os

from experts.inside_vllm.parent_death_signal import ENGINE_VARIABLE, set_parent_death_signal
from experts.vllm_version import VERIFIED


def register() -> None:
    """Sets the parent death signal, forks cores where that is verified, and keeps AMX out of use."""
    server = os.environ.get(ENGINE_VARIABLE)
    if server is None:
        return
    if os.getpid() == int(server):  # its signal was set before it started
        _fork_cores()
    else:
        set_parent_death_signal()
    _avoid_amx()


def _fork_cores() -> None:
    from vllm.platforms import current_platform
    from vllm.version import __version__

    if current_platform.is_cpu() and __version__.startswith(VERIFIED):
        from experts.inside_vllm import forked_core

        forked_core.install()


def _avoid_amx() -> None:
    """Keeps AMX out of use: on some virtual CPUs it gives garbage or an illegal instruction."""
    import torch

    torch.cpu._is_amx_tile_supported = lambda: False
