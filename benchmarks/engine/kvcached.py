"""The rival whose processes share one GPU's memory for their KV: vLLM with kvcached (arXiv 2508.08448)."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec

from pydantic import ByteSize

from benchmarks.engine.processes import Processes
from benchmarks.engine.rival import KVCACHED
from experts.spec import Expert

SWITCH = "ENABLE_KVCACHED"
"""Variable by which kvcached changes vLLM as it is imported. Without it, it does nothing."""


class Kvcached(Processes):
    """Each process may fill the family's whole KV pool, and takes memory for what of it is in use. It has not
    run: its sources were read, and it builds on a machine with CUDA alone."""

    name = KVCACHED

    def unfit(self, experts: Sequence[Expert]) -> str | None:
        if self._gpu_bytes is None:
            return "kvcached needs a GPU"
        if find_spec("kvcached") is None:
            return "kvcached is not installed (pip install kvcached --no-build-isolation)"
        return super().unfit(experts)

    async def hold(self, experts: Sequence[Expert]) -> None:
        with switched_on():
            await super().hold(experts)

    def _pool(self, count: int) -> ByteSize | None:
        return self._config.kv_cache


@contextmanager
def switched_on() -> Iterator[None]:
    """Has processes that are started meanwhile be changed by kvcached."""
    before = os.environ.get(SWITCH)
    os.environ[SWITCH] = "true"
    try:
        yield
    finally:
        del os.environ[SWITCH]
        if before is not None:
            os.environ[SWITCH] = before
