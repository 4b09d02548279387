"""A simulated engine and a disk that fail when they are told to."""

import asyncio
import errno
from pathlib import Path

from experts.engines.engine import Loaded
from experts.errors import EngineStartFailed, LoadFailed
from experts.simulated.engine import SimulatedEngine
from experts.simulated.response import SimulatedResponse
from experts.spec import Expert
from memory_tiers.driver.staging import Disk


class FaultyEngine(SimulatedEngine):
    """``failing_loads`` and ``failing_starts``: how many of the next fail. ``hang_s``: for how long the next
    load takes longer; ``silent_s``: for how long the next token does."""

    failing_loads = 0
    failing_starts = 0
    hang_s = 0.0
    silent_s = 0.0

    async def start(self, expert: Expert, weights: Path) -> Loaded:
        if self.failing_starts:
            self.failing_starts -= 1
            await asyncio.sleep(0.1)
            raise EngineStartFailed("the simulation lets this start fail")
        return await super().start(expert, weights)

    async def load(self, expert: Expert, weights: Path, images: Path | None = None) -> Loaded:
        seconds, self.hang_s = self.hang_s, 0.0
        if seconds:
            await asyncio.sleep(seconds)
        loaded = await super().load(expert, weights, images)
        if self.failing_loads:
            self.failing_loads -= 1
            await self.unload(expert.name)
            raise LoadFailed("the simulation lets this load fail")
        return loaded

    async def step(self, answer: SimulatedResponse, expert: str) -> float:
        seconds, self.silent_s = self.silent_s, 0.0
        if seconds:
            await asyncio.sleep(seconds)
        return seconds + await super().step(answer, expert)


class FaultyDisk(Disk):
    """``failing``: how many of the next reads fail, as a broken disk's do."""

    failing = 0

    def read(self, descriptor: int, buffer: memoryview, position: int) -> int:
        if self.failing:
            self.failing -= 1
            raise OSError(errno.EIO, "the simulation lets this read fail")
        return super().read(descriptor, buffer, position)
