"""The rival that swaps: plain vLLM holds one expert, and is drained before it is given another."""

import asyncio
import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import assert_never

from benchmarks.engine.asking import Served, ask
from benchmarks.engine.rival import SWAPPING, Switching, engine_bytes, open_engine, plain
from benchmarks.engine.swap_queue import Action, Grant, Swap, SwapQueue
from benchmarks.engine.workload import Question
from experts.engines.engine import Engine
from experts.errors import EngineError
from experts.spec import Expert, FamilyConfig


class DrainThenSwap:
    """Carries out what ``SwapQueue`` decides. A swap is vLLM's pause, reload of the weights, resume: far
    quicker than the process start by which llama-swap itself changes models."""

    name = SWAPPING
    fewest = 1

    def __init__(self, family: str, config: FamilyConfig, logs: Path) -> None:
        self._engine = open_engine(family, plain(config), logs / "drain-then-swap")
        self._experts: dict[str, Expert] = {}
        self._queue = SwapQueue("")
        self._numbers = itertools.count()
        self._granted: dict[int, asyncio.Future[None]] = {}
        self._swaps: set[asyncio.Task[None]] = set()
        self._switching = Switching()

    def unfit(self, experts: Sequence[Expert]) -> str | None:
        return None

    async def hold(self, experts: Sequence[Expert]) -> None:
        self._experts = {expert.name: expert for expert in experts}
        if self._engine.state != "ready":
            await self._engine.start(experts[0], experts[0].folder)
            self._queue = SwapQueue(experts[0].name)
            self._switching = Switching()

    async def serve(self, question: Question, tokens: int) -> Served:
        asked = time.perf_counter()
        number = next(self._numbers)
        granted = self._granted[number] = asyncio.get_running_loop().create_future()
        self._do(self._queue.arrived(number, question.expert))
        await granted
        try:
            expert = self._experts[question.expert]
            return await ask(self._engine_of(expert), expert, question, tokens, asked)
        finally:
            self._do(self._queue.finished())

    async def switching(self) -> Switching:
        return self._switching

    def memory_bytes(self) -> int:
        return engine_bytes(self._engine)

    async def stop(self) -> None:
        await self._engine.stop()
        await asyncio.gather(*self._swaps)

    def _engine_of(self, expert: Expert) -> Engine:
        """The engine that computes for a resident expert."""
        return self._engine

    async def _change(self, expert: Expert) -> None:
        """Makes ``expert`` resident in the place of the one that is. Raises EngineError."""
        await self._engine.load(expert, expert.folder)

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Grant(number):
                    if not (granted := self._granted.pop(number)).done():
                        granted.set_result(None)
                case Swap(expert):
                    task = asyncio.create_task(self._swap(self._experts[expert]), name=f"swap to {expert}")
                    self._swaps.add(task)
                    task.add_done_callback(self._swaps.discard)
                case unreachable:
                    assert_never(unreachable)

    async def _swap(self, expert: Expert) -> None:
        begun = time.perf_counter()
        try:
            await self._change(expert)
        except EngineError as error:
            for granted in self._granted.values():
                if not granted.done():
                    granted.set_exception(error)
            return
        seconds = self._switching.seconds + time.perf_counter() - begun
        self._switching = Switching(self._switching.switches + 1, seconds)
        self._do(self._queue.swapped(expert.name))

    def __repr__(self) -> str:
        return f"<DrainThenSwap {self._queue!r} {self._engine!r}>"
