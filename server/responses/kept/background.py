"""Responses that are made while no client waits for them: a bounded number of tasks."""

import asyncio
import logging
from collections.abc import Callable, Coroutine

from server.access.shares import Holdings
from server.errors import BackgroundFull

log = logging.getLogger("coe.responses")


class Background:
    """The runs, by the id of their response. A run keeps its own end; one that is cancelled keeps none."""

    def __init__(self, most: int) -> None:
        self._runs: dict[str, asyncio.Task[None]] = {}
        self._running = Holdings(most)

    def start(self, id: str, owner: str, run: Callable[[], Coroutine[None, None, None]]) -> None:
        """Each owner has its share (``server.access.shares``). Raises BackgroundFull."""
        running = self._running
        if not running.take(owner, 1):
            raise BackgroundFull(
                f"{running.of(owner)} of your responses are made in the background, and {running.used} of "
                f"all, of which {running.most} may be, some of them of other keys: try again, or leave out "
                "'background'.",
                "background",
            )
        task = self._runs[id] = asyncio.create_task(run())
        task.add_done_callback(lambda ended: self._ended(id, owner, ended))

    async def cancel(self, id: str) -> bool:
        """Returns once it has given back all it held. False: it does not run."""
        task = self._runs.get(id)
        if task is None:
            return False
        task.cancel()
        await asyncio.wait({task})
        return True

    async def close(self) -> None:
        """Cancels all."""
        for id in list(self._runs):
            await self.cancel(id)

    def _ended(self, id: str, owner: str, task: asyncio.Task[None]) -> None:
        del self._runs[id]
        self._running.add(owner, -1)
        if not task.cancelled() and task.exception() is not None:
            log.error("response %s: its end is not kept", id, exc_info=task.exception())

    def __repr__(self) -> str:
        return f"<Background {self._running!r}>"
