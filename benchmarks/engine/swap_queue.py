"""Whose requests run where one expert is resident at a time: llama-swap's first come, first served. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Grant:
    """The request with this number runs now."""

    number: int


@dataclass(frozen=True, slots=True)
class Swap:
    """Load this expert in the place of the resident one, then call ``swapped``."""

    expert: str


Action = Grant | Swap


class SwapQueue:
    """Events in, actions out.

    1. While a swap is under way nothing runs.
    2. Requests for the resident expert run at once, also those that came after a request for another.
    3. When nothing runs any more, the expert of the request that has waited longest is loaded.

    So A B A B A B is served as A A A, swap, B B B. llama-swap's limit of requests at once for a model (it
    answers 429 past it) is left out.
    """

    def __init__(self, resident: str) -> None:
        self.resident = resident
        self.running = 0
        self._swapping = False
        self._waiting: dict[int, str] = {}

    def arrived(self, number: int, expert: str) -> list[Action]:
        self._waiting[number] = expert
        return list(self._decide())

    def finished(self) -> list[Action]:
        """A granted request has ended."""
        self.running -= 1
        return list(self._decide())

    def swapped(self, expert: str) -> list[Action]:
        self.resident, self._swapping = expert, False
        return list(self._decide())

    def _decide(self) -> Iterator[Action]:
        if self._swapping:  # 1
            return
        for number in [number for number, expert in self._waiting.items() if expert == self.resident]:  # 2
            del self._waiting[number]
            self.running += 1
            yield Grant(number)
        if self.running == 0 and self._waiting:  # 3
            self._swapping = True
            yield Swap(next(iter(self._waiting.values())))

    def __repr__(self) -> str:
        state = "swapping" if self._swapping else f"running: {self.running}"
        return f"<SwapQueue [resident: {self.resident}, {state}, waiting: {len(self._waiting)}]>"
