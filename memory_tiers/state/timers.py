"""When something is due for each of some names, kept up to date one change at a time."""

import heapq


class Timers:
    """One time for each name. A change costs O(log n)."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._at)

    def __repr__(self) -> str:
        return f"<Timers for {len(self)}, next at {self.next}>"

    def set(self, name: str, at: float) -> None:
        """Instead of the time it had."""
        if self._at.get(name) != at:
            self._at[name] = at
            heapq.heappush(self._heap, (at, name))

    def clear(self, name: str) -> None:
        self._at.pop(name, None)

    @property
    def next(self) -> float | None:
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> list[str]:
        """Whose time has come, in the order of their times; they are cleared."""
        names = []
        while (at := self.next) is not None and at <= now:
            name = heapq.heappop(self._heap)[1]
            del self._at[name]
            names.append(name)
        return names
