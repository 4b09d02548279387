"""Forks the engine core from the API server, on the CPU: the server has imported all that the core needs.

vLLM would start a new interpreter instead, which imports for seven seconds of processor time, a third of a
start. As a library, and on CUDA, vLLM forks where it can (``vllm/utils/system_utils.py``).
"""

import signal
from multiprocessing import resource_tracker
from multiprocessing.context import ForkContext, ForkProcess
from typing import Any

from vllm.v1.engine import utils

from experts.inside_vllm.parent_death_signal import set_parent_death_signal


class _Core(ForkProcess):
    """The core's process, killed when the server ends."""

    def run(self) -> None:
        signal.set_wakeup_fd(-1)  # the server's event loop would take the core's signals for its own
        set_parent_death_signal()
        super().run()


class _Context(ForkContext):
    Process = _Core


class _CoreManager(utils.CoreEngineProcManager):
    """Forks the core of a model for text. A server that prepares pictures may have computed with torch, and
    OpenMP's threads do not survive a fork."""

    def __init__(self, *arguments: Any, vllm_config: Any, **more: Any) -> None:
        if vllm_config.model_config.is_multimodal_model:
            super().__init__(*arguments, vllm_config=vllm_config, **more)
            return
        # The server kills what its core has started. Were a tracker among it, shared memory would stay.
        resource_tracker.ensure_running()
        before = utils.get_mp_context
        utils.get_mp_context = _Context
        try:
            super().__init__(*arguments, vllm_config=vllm_config, **more)
        finally:
            utils.get_mp_context = before


def install() -> None:
    """Lets the API server of this process fork the cores it starts."""
    utils.CoreEngineProcManager = _CoreManager
