"""A ranking of names that changes often and is read from its front."""

import heapq
from collections.abc import Iterator


class Ranking:
    """Names by a number, the smallest first; of equal numbers the smaller name. A change costs the logarithm
    of how many there are."""

    def __init__(self) -> None:
        self._value: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def put(self, name: str, value: float) -> None:
        """Ranks the name by ``value`` from now on."""
        if self._value.get(name) != value:
            self._value[name] = value
            heapq.heappush(self._heap, (value, name))
            if len(self._heap) > 4 * len(self._value) + 64:
                self._heap = [(value, name) for name, value in self._value.items()]
                heapq.heapify(self._heap)

    def drop(self, name: str) -> None:
        self._value.pop(name, None)

    def value(self, name: str) -> float | None:
        """Returns the number of a name; None: it is not ranked."""
        return self._value.get(name)

    def first(self, count: int) -> Iterator[str]:
        """Yields the first names, at most ``count``."""
        taken: list[tuple[float, str]] = []
        seen = set()
        while self._heap and len(taken) < count:
            value, name = heapq.heappop(self._heap)
            if self._value.get(name) == value and name not in seen:
                seen.add(name)
                taken.append((value, name))
        for ranked in taken:
            heapq.heappush(self._heap, ranked)
        yield from (name for _, name in taken)

    def __len__(self) -> int:
        return len(self._value)

    def __repr__(self) -> str:
        return f"<Ranking of {len(self)}>"
