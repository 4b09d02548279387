"""Signs of life for a client whose stream has not begun, which every reader skips."""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from server.services import Services


class KeepAlive:
    """Calls ``say`` every ``every_s`` seconds from entering to ``stop`` or leaving; 0: never. Costs a timer
    where ``stop`` comes first."""

    def __init__(self, say: Callable[[], Awaitable[None]], every_s: float) -> None:
        self._say = say
        self._every_s = every_s
        self._timer: asyncio.TimerHandle | None = None
        self._talking: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<KeepAlive every {self._every_s:g} s{' talking' if self._talking else ''}>"

    async def __aenter__(self) -> Self:
        if self._every_s:
            self._timer = asyncio.get_running_loop().call_later(self._every_s, self._begin)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            await self.stop()

    async def stop(self) -> None:
        """Ends the comments: none is sent once it returns. Idempotent. Raises what ``say`` did."""
        if self._timer is not None:
            self._timer.cancel()
        talking, self._talking = self._talking, None
        if talking is not None:
            talking.cancel()
            await asyncio.wait({talking})
            if not talking.cancelled():
                talking.result()

    def _begin(self) -> None:
        self._talking = asyncio.create_task(self._talk())

    async def _talk(self) -> None:
        while True:
            await self._say()
            await asyncio.sleep(self._every_s)


def waiting_for(services: Services, expert: str) -> str:
    """Says what a request for ``expert`` waits for."""
    for move in services.tiers.progress():
        if move.expert == expert and (move.source == "disk" or move.target == "device"):
            done = "" if move.done is None else f", {move.done * 100:.0f} %"
            return f"loading {expert}{done} ..."
    known = services.experts.get(expert)
    if known is not None and services.engines[known.family].state == "starting":
        return f"starting the engine of {expert} ..."
    return f"waiting for {expert} ..."
