"""The engine of a family in a gateway that has none: other nodes compute."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from experts.engines.engine import NO_HEADERS, Body, EngineState, EngineStatistics, Loaded
from experts.errors import EngineStartFailed, EngineUnavailable, LoadFailed
from experts.spec import Expert


class EngineElsewhere:
    """Implements ``experts.engines.engine.Engine``, and never starts."""

    resident_limit: int | None = None
    held_bytes = 0
    devices: tuple[int, ...] = ()
    sleep_after_s: float | None = None
    state: EngineState = "stopped"

    def __init__(self, family: str) -> None:
        self.family = family

    def __repr__(self) -> str:
        return f"<EngineElsewhere {self.family}>"

    async def start(self, expert: Expert, weights: Path) -> Loaded:
        raise EngineStartFailed(self._why)

    async def stop(self) -> None:
        pass

    async def sleep(self) -> None:
        self._unavailable()

    async def died(self) -> str:
        await asyncio.Event().wait()
        return self._why

    async def load(self, expert: Expert, weights: Path, images: Path | None = None) -> Loaded:
        raise LoadFailed(self._why)

    async def unload(self, name: str) -> None:
        pass

    async def request(
        self, expert: str, path: str, body: Body, headers: Mapping[str, str] = NO_HEADERS
    ) -> NoReturn:
        self._unavailable()

    async def alive(self) -> bool:
        return False

    async def statistics(self) -> EngineStatistics:
        self._unavailable()

    def _unavailable(self) -> NoReturn:
        raise EngineUnavailable(self._why)

    @property
    def _why(self) -> str:
        return f"this gateway has no engine of family {self.family}: its nodes have"
