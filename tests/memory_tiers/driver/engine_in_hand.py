"""An engine whose every step the test decides: loads wait for a gate, fail and die on demand."""

import asyncio
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experts.engines.engine import NO_HEADERS, EngineResponse, EngineState, EngineStatistics, Loaded
from experts.errors import EngineStartFailed, EngineUnavailable
from experts.spec import Expert


class EngineInHand:
    """``gate`` open: everything happens at once. ``failures`` are raised by the next starts and loads."""

    def __init__(self, family: str = "f", resident_limit: int | None = None) -> None:
        self._family = family
        self._limit = resident_limit
        self._state: EngineState = "stopped"
        self._death: asyncio.Future[str] | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.failures: deque[Exception] = deque()
        self.calls: list[str] = []
        self.resident: dict[str, Path] = {}
        self.stops = 0
        self.image_bytes = 0
        """Of the image that a load leaves where it may."""
        self.held = 0
        self.sleeps_after_s: float | None = None

    @property
    def family(self) -> str:
        return self._family

    @property
    def state(self) -> EngineState:
        return self._state

    @property
    def resident_limit(self) -> int | None:
        return self._limit

    @property
    def held_bytes(self) -> int:
        return self.held

    @property
    def sleep_after_s(self) -> float | None:
        return self.sleeps_after_s

    async def sleep(self) -> None:
        self.calls.append("sleep")
        if self.failures:
            raise self.failures.popleft()
        self._state = "asleep"
        self.resident.clear()

    @property
    def devices(self) -> tuple[int, ...]:
        return ()

    async def start(self, expert: Expert, weights: Path) -> Loaded:
        self.calls.append(f"start {expert.name}")
        self._state = "starting"
        await self.gate.wait()
        if self.failures:
            self._state = "dead"
            raise self.failures.popleft()
        self._state = "ready"
        self._death = asyncio.get_running_loop().create_future()
        self.resident = {expert.name: weights}
        return Loaded(expert.weights_bytes, 0.0)

    async def stop(self) -> None:
        self._state = "stopped"
        self.stops += 1
        self.resident.clear()

    async def died(self) -> str:
        if self._death is None:
            raise EngineStartFailed("not started")
        return await asyncio.shield(self._death)

    def die(self, reason: str = "killed") -> None:
        self._state = "dead"
        self.resident.clear()
        assert self._death is not None
        self._death.set_result(reason)

    async def load(self, expert: Expert, weights: Path, images: Path | None = None) -> Loaded:
        self.calls.append(f"load {expert.name}")
        await self.gate.wait()
        if self._state == "asleep":
            self._state = "ready"
        if self._state != "ready":
            raise EngineUnavailable("connection refused")
        if self.failures:
            raise self.failures.popleft()
        if self._limit == 1:
            self.resident.clear()
        self.resident[expert.name] = weights
        if images is None or self.image_bytes == 0:
            return Loaded(expert.weights_bytes, 0.0)
        (images / "image-0").write_bytes(bytes(self.image_bytes))
        (images / "image-1.partial").touch()
        return Loaded(expert.weights_bytes, 0.0, self.image_bytes)

    async def unload(self, name: str) -> None:
        self.calls.append(f"unload {name}")
        self.resident.pop(name, None)

    async def request(
        self, expert: str, path: str, body: Mapping[str, Any], headers: Mapping[str, str] = NO_HEADERS
    ) -> EngineResponse:
        raise AssertionError("the tiers send no requests")

    async def alive(self) -> bool:
        return self._state == "ready"

    async def statistics(self) -> EngineStatistics:
        return EngineStatistics(None, tuple(self.resident), 0, 0.0, 0.0, 0)
