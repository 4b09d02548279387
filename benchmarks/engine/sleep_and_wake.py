"""The rival that swaps by vLLM's sleep mode: a process for each expert, of which one is awake."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from benchmarks.engine.drain_then_swap import DrainThenSwap
from benchmarks.engine.rival import SLEEPING, engine_bytes, open_engine, plain
from benchmarks.engine.swap_queue import SwapQueue
from experts.engines.engine import Engine
from experts.spec import Expert, FamilyConfig
from experts.vllm.engine import VllmEngine
from experts.vllm_version import installed_vllm

ASLEEP = "/sleep?level=1"
"""Weights go to main memory, and come back from there; level 2 would read the checkpoint again."""
AWAKE = "/wake_up"


class SleepAndWake(DrainThenSwap):
    """Drained as ``DrainThenSwap`` is. A swap sends one process to sleep and wakes another, each with the
    family's whole KV pool while it is awake. It has not run on a GPU; the simulated engine runs."""

    name = SLEEPING
    fewest = 2

    def __init__(self, family: str, config: FamilyConfig, logs: Path, platform: str | None = None) -> None:
        """``platform``: of vLLM; None: of the one installed."""
        super().__init__(family, config, logs)
        vllm = installed_vllm()
        self._platform = platform or ("cpu" if vllm is None else vllm.platform)
        self._family = family
        self._logs = logs / "sleep-and-wake"
        self._config = plain(config)
        if self._config.mode != "simulated":
            given = (*self._config.extra_args, "--enable-sleep-mode")
            self._config = self._config.model_copy(update={"extra_args": given})
        self._engines: dict[str, Engine] = {}

    def unfit(self, experts: Sequence[Expert]) -> str | None:
        if self._config.mode != "simulated" and self._platform != "cuda":
            return "vLLM's sleep mode needs a GPU"
        return None

    async def hold(self, experts: Sequence[Expert]) -> None:
        """Starts one after another, as no two have room; the one that was awake wakes again."""
        self._experts = {expert.name: expert for expert in experts}
        new = [expert for expert in experts if expert.name not in self._engines]
        if self._engines and new:
            await self._send_to_sleep(self._queue.resident)
        for expert in new:
            engine = open_engine(self._family, self._config, self._logs / expert.name)
            self._engines[expert.name] = engine
            await engine.start(expert, expert.folder)
            await self._send_to_sleep(expert.name)
        if new:
            resident = self._queue.resident or experts[0].name
            await self._wake(self._experts[resident])
            self._queue = SwapQueue(resident)

    def memory_bytes(self) -> int:
        return sum(engine_bytes(engine) for engine in self._engines.values())

    async def stop(self) -> None:
        await asyncio.gather(*(engine.stop() for engine in self._engines.values()))
        await super().stop()
        self._engines.clear()
        self._queue = SwapQueue("")

    def _engine_of(self, expert: Expert) -> Engine:
        return self._engines[expert.name]

    async def _change(self, expert: Expert) -> None:
        await self._send_to_sleep(self._queue.resident)
        await self._wake(expert)

    async def _send_to_sleep(self, name: str) -> None:
        engine = self._engines[name]
        if isinstance(engine, VllmEngine):
            await engine.server.command(ASLEEP)
        else:
            await engine.sleep()

    async def _wake(self, expert: Expert) -> None:
        engine = self._engine_of(expert)
        if isinstance(engine, VllmEngine):
            await engine.server.command(AWAKE)
        else:
            await engine.load(expert, expert.folder)

    def __repr__(self) -> str:
        return f"<SleepAndWake {self._queue!r} {list(self._engines.values())!r}>"
