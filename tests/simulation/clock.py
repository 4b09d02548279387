"""The clock of a simulated process: who asks Python for the time is told that of the run under way.

``install`` comes before the gateway is imported: defaults such as ``clock=time.monotonic`` are read then.
Threads that wait do so by the machine's time.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EPOCH = 1_700_000_000.0
"""Wall-clock time at which a run begins, in seconds since 1970."""


class Clock:
    """``ahead_s``: how far the wall's clock has jumped."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self.ahead_s = 0.0

    def steady(self) -> float:
        return self._seconds()

    def wall(self) -> float:
        return EPOCH + self._seconds() + self.ahead_s


_REAL = {name: getattr(time, name) for name in ("monotonic", "perf_counter", "time")}
_running: list[Clock] = []


def install() -> None:
    """From now on the time is that of ``running``, where one is, and the machine's elsewhere."""
    time.monotonic = lambda: _running[-1].steady() if _running else _REAL["monotonic"]()
    time.perf_counter = lambda: _running[-1].steady() if _running else _REAL["perf_counter"]()
    time.time = lambda: _running[-1].wall() if _running else _REAL["time"]()


@contextmanager
def running(clock: Clock) -> Iterator[None]:
    """Within it the time is ``clock``'s."""
    _running.append(clock)
    try:
        yield
    finally:
        _running.pop()
