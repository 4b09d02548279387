"""When experts are due again though nothing happens."""

import heapq


class Timers:
    """Times at which experts are to be decided on again, each no more often than it was asked for."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, str]] = []
        self._set: set[tuple[float, str]] = set()

    def at(self, time: float, expert: str) -> None:
        """Makes ``expert`` due at ``time``. Idempotent."""
        if (time, expert) not in self._set:
            self._set.add((time, expert))
            heapq.heappush(self._heap, (time, expert))

    def due(self, now: float, most: int) -> list[str]:
        """Returns the experts that are due, at most ``most``, and forgets them."""
        found: list[str] = []
        while self._heap and self._heap[0][0] <= now and len(found) < most:
            timer = heapq.heappop(self._heap)
            self._set.discard(timer)
            found.append(timer[1])
        return found

    @property
    def next(self) -> float | None:
        """Returns when the next is due; None: never."""
        return self._heap[0][0] if self._heap else None

    def __repr__(self) -> str:
        return f"<Timers {len(self._heap)}, next at {self.next}>"
