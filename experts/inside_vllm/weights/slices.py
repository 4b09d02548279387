"""Bounds the work between an engine's steps to slices, by the time that such work took before."""

from collections.abc import Callable
from dataclasses import dataclass

Clock = Callable[[], float]


@dataclass(slots=True)
class Pace:
    """Foresees how long work on so many bytes takes, from what it took; 1 GB/s until that is known."""

    seconds: float = 1e-3
    bytes: float = 1e6

    def expects(self, size: int) -> float:
        return size * self.seconds / self.bytes

    def took(self, size: int, seconds: float) -> None:
        self.bytes += size
        self.seconds += seconds


class Slice:
    """A slice of ``seconds``, from now."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._end = clock() + seconds
        self._worked = False

    def allows(self, seconds: float) -> bool:
        """Tells whether work of ``seconds`` fits; the first always does."""
        if self._worked and self._clock() + seconds > self._end:
            return False
        self._worked = True
        return True
