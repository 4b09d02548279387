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
"""Bytes that a vLLM process holds beside weights and KV pool, roughly."""


class Processes:
    """The KV pool of the family is divided among the processes; each may use all cores."""

    name = PROCESSES
    fewest = 2

    def __init__(
        self,
        family: str,
        config: FamilyConfig,
        logs: Path,
        cores: int | None = None,
        memory: int | None = None,
    ) -> None:
        """``cores`` and ``memory`` (free bytes): absent means what this machine has."""
        self._family = family
        self._config = plain(config)
        self._logs = logs / "processes"
        self._cores = cores or os.cpu_count() or 1
        self._memory = memory
        self._experts: dict[str, Expert] = {}
        self._engines: dict[str, Engine] = {}

    def unfit(self, experts: Sequence[Expert]) -> str | None:
        count = len(experts)
        if count > self._cores:
            return f"{count} processes on {self._cores} cores"
        pools = int(self._config.kv_cache or 0)
        needed = sum(expert.weights_bytes + PROCESS_BYTES for expert in experts) + pools
        free = self._memory if self._memory is not None else _free_bytes()
        if self._config.mode != "simulated" and needed > free:
            return f"{count} processes need some {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"
        return None

    async def hold(self, experts: Sequence[Expert]) -> None:
        await self.stop()
        pool = self._config.kv_cache
        share = None if pool is None else ByteSize(int(pool) // len(experts))
        config = self._config.model_copy(update={"kv_cache": share})
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

    def __repr__(self) -> str:
        return f"<Processes {list(self._engines.values())!r}>"


def _free_bytes() -> int:
    found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0
