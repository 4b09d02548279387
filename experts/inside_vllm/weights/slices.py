"""Work in slices between an engine's steps: what fits into one, from what such work took before."""

from collections.abc import Callable
from dataclasses import dataclass

Clock = Callable[[], float]


@dataclass(slots=True)
class Pace:
    """How long work on so many bytes takes, from what it took; 1 GB/s until something is known."""

    seconds: float = 1e-3
    bytes: float = 1e6

    def expects(self, size: int) -> float:
        return size * self.seconds / self.bytes

    def took(self, size: int, seconds: float) -> None:
        self.bytes += size
        self.seconds += seconds


class Slice:
    """``seconds`` from now."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._end = clock() + seconds
        self._worked = False

    def allows(self, seconds: float) -> bool:
        """Whether work that long fits; the first always does."""
        if self._worked and self._clock() + seconds > self._end:
            return False
        self._worked = True
        return True
