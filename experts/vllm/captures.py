"""Has an engine capture graphs for its experts, one at a time, between its steps and beside no load."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from experts.errors import EngineUnavailable, LoadFailed
from experts.vllm.server import VllmServer

logger = logging.getLogger(__name__)


Prove = Callable[[str], Awaitable[None]]
"""Asks the server for what is known of an expert, under the name that it is given. Raises CanaryFailed."""


class Captures:
    """An expert that was loaded computes at once, without graphs. They come while it does, and are used once
    all are there and have proved right."""

    def __init__(self, family: str) -> None:
        self.no_load = asyncio.Lock()
        """Held by a load from its beginning to its end: a thread that pins would spoil what is captured."""
        self._family = family
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def begin(self, server: VllmServer, expert: str, prove: Prove) -> None:
        """Begins to capture for ``expert``, which was loaded."""
        self.end(expert)
        task = asyncio.create_task(self._capture(server, expert, prove), name=f"capture for {expert}")
        self._tasks[expert] = task
        task.add_done_callback(lambda done: self._tasks.get(expert) is done and self._tasks.pop(expert))

    def end(self, expert: str) -> None:
        """Captures no more for ``expert``."""
        if (task := self._tasks.pop(expert, None)) is not None:
            task.cancel()

    def end_all(self) -> None:
        for expert in list(self._tasks):
            self.end(expert)

    async def settled(self) -> None:
        """Waits until every expert has what graphs it gets."""
        while self._tasks:
            await asyncio.wait(self._tasks.values())

    async def _capture(self, server: VllmServer, expert: str, prove: Prove) -> None:
        try:
            while await self._captured_one(server, expert):
                pass
            tried, *_ = await server.workers("coe_try_graphs", expert)
            await prove(tried["tried_as"])
            await server.workers("coe_trust_graphs", expert)
        except LoadFailed as error:
            logger.warning("family %s: %s computes without graphs: %s", self._family, expert, error)
            await self._forget(server, expert)
        except EngineUnavailable as error:
            logger.debug("family %s: no graphs for %s: %s", self._family, expert, error)

    async def _captured_one(self, server: VllmServer, expert: str) -> bool:
        """Has all workers capture the same graph, where all lack one and have room. Raises LoadFailed."""
        async with self.no_load:
            reports = await server.workers("coe_graphs", expert)
            if not all(report["missing"] for report in reports):
                return False
            if not all(report["room"] for report in reports):
                raise LoadFailed(f"the GPU has no room for {reports[0]['missing']} graphs; lower kv_cache")
            await server.workers("coe_capture", expert)
            return True

    async def _forget(self, server: VllmServer, expert: str) -> None:
        """Has all workers destroy what graphs they have: either all compute with a graph or none does."""
        try:
            await server.workers("coe_forget_graphs", expert)
        except (EngineUnavailable, LoadFailed) as error:
            logger.warning("family %s: graphs of %s: %s", self._family, expert, error)

    def __repr__(self) -> str:
        return f"<Captures {self._family} [{', '.join(self._tasks)}]>"
