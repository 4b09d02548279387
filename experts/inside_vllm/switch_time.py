"""Measures what switches cost, also where a device carries them out after the call that asked for them."""

import time
from collections import deque
from collections.abc import Callable
from typing import Protocol


class Event(Protocol):
    """A mark on a device's stream, as of ``torch.cuda.Event(enable_timing=True)``."""

    def record(self) -> None: ...

    def query(self) -> bool:
        """Tells whether the device has come to it."""
        ...

    def elapsed_time(self, end_event: "Event") -> float:
        """Returns the milliseconds to ``end_event``."""
        ...


class SwitchTime:
    """``of`` carries a switch out; ``taken`` says what the switches took that have ended since it was asked
    last. It never waits for the device: after a step's own synchronisation its switch has ended, and a switch
    that has not is told of later."""

    def __init__(self, event: Callable[[], Event] | None = None) -> None:
        """``event``: makes a mark on the device's stream; None where a call is over when it returns."""
        self._event = event
        self._ended: deque[float] = deque()
        self._under_way: deque[tuple[Event, Event]] = deque()

    def of(self, switch: Callable[[], None]) -> None:
        """Carries ``switch`` out."""
        if self._event is None:
            begun = time.perf_counter()
            switch()
            self._ended.append(time.perf_counter() - begun)
            return
        begin, end = self._event(), self._event()
        begin.record()
        switch()
        end.record()
        self._under_way.append((begin, end))

    def taken(self) -> float:
        """Returns the seconds of all switches that have ended since."""
        while self._under_way and self._under_way[0][1].query():
            begin, end = self._under_way.popleft()
            self._ended.append(begin.elapsed_time(end) / 1e3)
        seconds = 0.0
        while self._ended:
            seconds += self._ended.popleft()
        return seconds

    def __repr__(self) -> str:
        return f"<SwitchTime [{len(self._under_way)} under way]>"
