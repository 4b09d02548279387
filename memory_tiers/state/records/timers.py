"""Keeps, for each of some names, the time when something is due, one change at a time."""

import heapq


class Timers:
    """Holds one time for each name. Is a heap whose outdated entries are skipped; a change costs O(log n)."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._at)

    def __repr__(self) -> str:
        return f"<Timers for {len(self)}, next at {self.next}>"

    @property
    def times(self) -> dict[str, float]:
        """The time of each name."""
        return dict(self._at)

    def set(self, name: str, at: float) -> None:
        """Sets the time of ``name`` in place of an earlier one."""
        self._at[name] = at
        heapq.heappush(self._heap, (at, name))
        if len(self._heap) > 2 * len(self._at) + 64:
            self._heap = [(at, name) for name, at in self._at.items()]
            heapq.heapify(self._heap)

    def clear(self, name: str) -> None:
        """Drops the time of ``name``, if it has one."""
        self._at.pop(name, None)

    @property
    def next(self) -> float | None:
        """The earliest time; None where no name has one."""
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> list[str]:
        """Clears and returns the names whose time has come, earliest first."""
        names = []
        while (at := self.next) is not None and at <= now:
            name = heapq.heappop(self._heap)[1]
            del self._at[name]
            names.append(name)
        return names
