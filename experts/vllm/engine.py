"""Real vLLM behind the engine protocol: one server for the experts of a family."""

import asyncio
import time
from abc import abstractmethod
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

from experts.engines.engine import NO_HEADERS, Body, EngineStatistics, Loaded
from experts.engines.resident import Resident
from experts.errors import CheckpointError, DeviceFull, ExpertNotResident, LoadFailed
from experts.spec import Expert
from experts.vllm.address import Address
from experts.vllm.response import VllmResponse
from experts.vllm.server_life import ServerLife


class VllmEngine(ServerLife):
    """An engine of any mode. Modes differ in how an expert comes to the device and how a request names it
    (``experts.vllm.modes``)."""

    @property
    @abstractmethod
    def resident_limit(self) -> int | None: ...

    @property
    def held_bytes(self) -> int:
        return 0

    async def load(self, expert: Expert, weights: Path, images: Path | None = None) -> Loaded:
        begun = time.monotonic()
        try:
            held = await self._bring(expert, weights, images)
        except (LoadFailed, CheckpointError) as error:
            kind = DeviceFull if isinstance(error, DeviceFull) else LoadFailed
            raise kind(f"{expert.name}: {error}") from error
        self._resident[expert.name] = Resident.of(weights)
        return Loaded(held, time.monotonic() - begun, _bytes_in(images) if images else 0)

    async def unload(self, name: str) -> None:
        self._resident.pop(name, None)

    def request(
        self, expert: str, path: str, body: Body, headers: Mapping[str, str] = NO_HEADERS
    ) -> Coroutine[Any, Any, VllmResponse]:
        return self.server.ask(self.address(expert), path, body, headers)

    def address(self, expert: str) -> Address:
        """Returns what names a resident expert to the server. Raises ExpertNotResident."""
        resident = self._resident.get(expert)
        if resident is None:
            raise ExpertNotResident(f"{expert} is not on the device of {self._family}; load it first")
        return self._address(expert, resident)

    async def alive(self) -> bool:
        if self._state != "ready":
            return False
        try:
            async with asyncio.timeout(2.0):
                return await self.server.healthy()
        except TimeoutError:
            return False

    @abstractmethod
    async def statistics(self) -> EngineStatistics: ...

    @abstractmethod
    async def _bring(self, expert: Expert, weights: Path, images: Path | None) -> int:
        """Makes ``expert`` resident, and returns the bytes it holds. Raises LoadFailed, CheckpointError."""


def _bytes_in(images: Path) -> int:
    """Counts the bytes of an expert's images: a file for each worker, but none that a load left
    unfinished."""
    return sum(file.stat().st_size for file in images.glob("image-*") if file.suffix == "")


def absolute(weights: Path) -> str:
    """Returns a path that the server, which has a working folder of its own, can open."""
    return str(weights.absolute())
