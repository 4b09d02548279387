"""Changes that others wait for: of the nodes, and of what this one holds."""

import asyncio
import contextlib

from memory_tiers.observations import Displaced, EngineChanged, MoveDone, Observation

_CHANGES = (MoveDone, Displaced, EngineChanged)


class Changes:
    """Wakes whoever waits for the next change."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def note(self) -> None:
        """Wakes all who wait."""
        event, self._next = self._next, asyncio.Event()
        event.set()

    async def next(self, most_s: float) -> None:
        """Waits for the next change, at most ``most_s`` seconds."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._next.wait(), most_s)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class ResidencyChanges(Changes):
    """Tells of what this node holds, for those who tell other nodes."""

    def observe(self, observation: Observation) -> None:
        """Takes in what the tiers observe."""
        if isinstance(observation, _CHANGES):
            self.note()
