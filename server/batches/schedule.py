"""Schedule of waiting requests by expert: experts take turns, each with all its waiting requests."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping

from memory_tiers.tiers import Tier

Work = Callable[[], Awaitable[None]]
"""One request, from its lease to its line in a file. It raises nothing."""


def in_order(waiting: Mapping[str, int], tiers: Mapping[str, Tier]) -> list[str]:
    """Orders experts for their turns: those on the device first, which cost no load, then those with most
    work."""
    return sorted(waiting, key=lambda expert: (tiers.get(expert) != "device", -waiting[expert], expert))


class Rounds:
    """Rounds of turns: in a round each expert with work has one turn, which does all its waiting requests; so
    a batch that comes late is done by the end of the next round."""

    def __init__(
        self,
        concurrency: int,
        tiers: Callable[[], Mapping[str, Tier]],
        calm: Callable[[str], Awaitable[None]],
    ) -> None:
        """``tiers``: where experts are now. ``calm``: waits as long as requests online, which
        come first, wait for the place of this expert."""
        self._concurrency = concurrency
        self._tiers = tiers
        self._calm = calm
        self._waiting: dict[str, deque[Work]] = {}
        self._something = asyncio.Event()

    def __repr__(self) -> str:
        waiting = ", ".join(f"{expert}: {len(work)}" for expert, work in self._waiting.items())
        return f"<Rounds [{waiting or 'nothing waits'}]>"

    def add(self, work: Mapping[str, Iterable[Work]]) -> None:
        """Adds requests, by expert."""
        for expert, requests in work.items():
            self._waiting.setdefault(expert, deque()).extend(requests)
            self._something.set()

    async def run(self) -> None:
        """Gives turns until it is cancelled; then requests under way are cancelled too."""
        while True:
            await self._something.wait()
            self._something.clear()
            waiting = {expert: len(requests) for expert, requests in self._waiting.items()}
            for expert in in_order(waiting, self._tiers()):
                await self._turn(expert, self._waiting.pop(expert))

    async def _turn(self, expert: str, requests: deque[Work]) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._concurrency, len(requests))):
                group.create_task(self._one_after_another(expert, requests))

    async def _one_after_another(self, expert: str, requests: deque[Work]) -> None:
        while requests:
            work = requests.popleft()
            await self._calm(expert)
            await work()
