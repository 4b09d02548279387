"""Rival with one plain vLLM process for each expert, which share what one engine would have had."""

import asyncio
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import ByteSize

from benchmarks.engine.asking import Served, ask
from benchmarks.engine.rival import PROCESSES, Switching, engine_bytes, open_engine, plain
from benchmarks.engine.workload import Question
from experts.engines.engine import Engine
from experts.spec import Expert, FamilyConfig

PROCESS_BYTES = 2**30
"""Bytes that a vLLM process holds beside weights and KV pool in main memory, roughly."""
UTILIZATION = "--gpu-memory-utilization"
PROCESS_GPU_BYTES = 3 * 2**30
"""Assumed: what it holds of a GPU beside them, context, graphs and activations."""
GPU_SHARE = 0.9
"""The part of a GPU that all processes may have together."""


class Processes:
    """The KV pool of the family is divided among the processes; each may use all cores, and its part of a
    GPU. On one it has not run."""

    name = PROCESSES
    fewest = 2

    def __init__(
        self,
        family: str,
        config: FamilyConfig,
        logs: Path,
        cores: int | None = None,
        memory: int | None = None,
        gpu_bytes: int | None = None,
    ) -> None:
        """``cores`` and ``memory`` (free bytes): absent means what this machine has. ``gpu_bytes``: of the
        GPU that the processes share; absent means that they compute in main memory."""
        self._family = family
        self._config = plain(config)
        self._logs = logs / "processes"
        self._cores = cores or os.cpu_count() or 1
        self._memory = memory
        self._gpu_bytes = gpu_bytes
        self._experts: dict[str, Expert] = {}
        self._engines: dict[str, Engine] = {}

    def unfit(self, experts: Sequence[Expert]) -> str | None:
        count = len(experts)
        if count > self._cores:
            return f"{count} processes on {self._cores} cores"
        if self._config.mode == "simulated":
            return None
        weights = sum(expert.weights_bytes for expert in experts) // self._config.tensor_parallel_size
        beside = PROCESS_BYTES if self._gpu_bytes is None else PROCESS_GPU_BYTES
        needed = weights + count * beside + int(self._config.kv_cache or 0)
        free = self._free()
        if needed > free:
            return f"{count} processes need some {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"
        return None

    async def hold(self, experts: Sequence[Expert]) -> None:
        await self.stop()
        config = self._config.model_copy(update=self._share(len(experts)))
        for expert in experts:
            engine = open_engine(self._family, config, self._logs / expert.name)
            self._experts[expert.name], self._engines[expert.name] = expert, engine
            await engine.start(expert, expert.folder)

    async def serve(self, question: Question, tokens: int) -> Served:
        name = question.expert
        return await ask(self._engines[name], self._experts[name], question, tokens, time.perf_counter())

    async def switching(self) -> Switching:
        return Switching()

    def memory_bytes(self) -> int:
        return sum(engine_bytes(engine) for engine in self._engines.values())

    async def stop(self) -> None:
        await asyncio.gather(*(engine.stop() for engine in self._engines.values()))
        self._engines.clear()

    def _free(self) -> int:
        if self._gpu_bytes is not None:
            return int(GPU_SHARE * self._gpu_bytes)
        return self._memory if self._memory is not None else _free_bytes()

    def _share(self, count: int) -> dict[str, object]:
        """Returns the settings of one of ``count`` processes."""
        shared: dict[str, object] = {"kv_cache": self._pool(count)}
        if self._gpu_bytes is not None:  # else vLLM wants 0.92 of the GPU free for each; the last one counts
            part = (UTILIZATION, f"{GPU_SHARE / count:.2f}")
            shared["extra_args"] = (*self._config.extra_args, *part)
        return shared

    def _pool(self, count: int) -> ByteSize | None:
        pool = self._config.kv_cache
        return None if pool is None else ByteSize(int(pool) // count)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {list(self._engines.values())!r}>"


def _free_bytes() -> int:
    found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0
