"""The rival that is ours: all experts resident in one engine, token by token."""

import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.engine.asking import Served, ask
from benchmarks.engine.rival import INTERLEAVED, Switching, computing_type, engine_bytes, open_engine
from benchmarks.engine.workload import Question
from experts.errors import LoadFailed
from experts.spec import Expert, FamilyConfig


class Interleaved:
    """``config.mode`` must be interleaved or simulated."""

    name = INTERLEAVED
    fewest = 1

    def __init__(self, family: str, config: FamilyConfig, logs: Path) -> None:
        self._engine = open_engine(family, config, logs / "interleaved")
        self._experts: dict[str, Expert] = {}

    @property
    def dtype(self) -> str:
        """The type it computes in, once it has started."""
        return computing_type(self._engine)

    def unfit(self, experts: Sequence[Expert]) -> str | None:
        return None

    async def hold(self, experts: Sequence[Expert]) -> None:
        for expert in experts:
            if self._engine.state != "ready":
                await self._engine.start(expert, expert.folder)
            elif expert.name not in self._experts:
                if self._engine.resident_limit == len(self._experts):
                    raise LoadFailed(f"{self._engine!r} holds no more experts: nothing to compare")
                await self._engine.load(expert, expert.folder)
            self._experts[expert.name] = expert

    async def serve(self, question: Question, tokens: int) -> Served:
        expert = self._experts[question.expert]
        return await ask(self._engine, expert, question, tokens, time.perf_counter())

    async def switching(self) -> Switching:
        statistics = await self._engine.statistics()
        return Switching(statistics.switches, statistics.switch_seconds)

    def memory_bytes(self) -> int:
        return engine_bytes(self._engine)

    async def stop(self) -> None:
        self._experts.clear()
        await self._engine.stop()

    def __repr__(self) -> str:
        return f"<Interleaved {self._engine!r}>"
