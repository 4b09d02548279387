"""Executor and worker on CPU that do what those on CUDA do asynchronously: steps are scheduled one ahead.

vLLM turns that off on CPU. With what CUDA has and the CPU has not replaced by nothing, its model runner works
that way there too: it computes each step at once, and says what came of it a step later.
"""

from contextlib import nullcontext
from typing import Any

import torch

from experts.inside_vllm.scheduling.executor import ExpertExecutor
from experts.inside_vllm.worker import ExpertWorker


class AheadExecutor(ExpertExecutor):
    def __init__(self, vllm_config: Any, *args: Any, **kwargs: Any) -> None:
        vllm_config.scheduler_config.async_scheduling = True
        super().__init__(vllm_config, *args, **kwargs)


class AheadWorker(ExpertWorker):
    def init_device(self) -> None:
        torch.cuda.Stream = torch.cuda.Event = _Nothing
        torch.cuda.current_stream = _Nothing
        torch.cuda.stream = lambda _: nullcontext()
        super().init_device()


class _Nothing:
    """A stream or an event of a device that has ended all it was given."""

    device = torch.device("cpu")

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def wait_stream(self, stream: object) -> None:
        pass

    def record(self) -> None:
        pass

    def synchronize(self) -> None:
        pass
