"""Tells the time to delete by, which a wall clock that jumps does not carry along."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

JUMP_S = 60.0
"""A wall clock that has gone further than this from the steady one has jumped."""
SETTLED_S = 3600.0
"""How long after the start nothing is deleted, and every jump is believed: a machine may begin with a wrong
clock and be put right."""
BELIEVED_S = 86_400.0
"""How long a later jump must stand before it is believed."""


@dataclass(frozen=True, slots=True)
class _Told:
    """The time ``utc`` that was told when the steady clock said ``steady``. ``jumped``: when, on the steady
    clock, the wall clock left it; None: it has not."""

    utc: float
    steady: float
    jumped: float | None


class RetentionClock:
    """Tells seconds since 1970, for what is kept for a time. Any thread may ask."""

    def __init__(
        self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic
    ) -> None:
        """``steady``: seconds of a clock that never jumps."""
        self._wall = wall
        self._steady = steady
        self._settled = steady() + SETTLED_S
        self._told = _Told(wall(), steady(), None)

    def __repr__(self) -> str:
        return f"<RetentionClock told {self._told.utc:.0f}{', jumped' if self._told.jumped else ''}>"

    def __call__(self) -> float:
        """Returns the wall clock's time, or where that has jumped the time that it would be without the
        jump."""
        told, wall, steady = self._told, self._wall(), self._steady()
        expected = told.utc + (steady - told.steady)
        jumped = told.jumped if told.jumped is not None else steady
        if abs(wall - expected) <= JUMP_S or steady < self._settled or steady - jumped >= BELIEVED_S:
            self._told = _Told(wall, steady, None)
        else:
            self._told = _Told(expected, steady, jumped)
        return self._told.utc

    def before(self, age_s: float) -> float:
        """Returns the time before which is older than ``age_s`` and may be deleted; -inf while nothing
        may."""
        now = self()
        return -math.inf if self._steady() < self._settled else now - age_s
