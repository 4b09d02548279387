"""Requests that come at random, on time to some ten microseconds: event loops count in milliseconds."""

import asyncio
import ctypes
import os
import random
import time
from collections.abc import Callable

_CLOCK_MONOTONIC = 1
_ABSOLUTE = 1


class _Instant(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Setting(ctypes.Structure):
    _fields_ = (("interval", _Instant), ("value", _Instant))


class Arrivals:
    """Calls ``arrive`` with the time at which it should have been called, ``rate`` times a second on average,
    from ``begin`` to ``end``. Linux only (timerfd_create(2)); times are those of ``time.perf_counter``."""

    def __init__(self, rate: float, seed: int, arrive: Callable[[float], None]) -> None:
        self._rate = rate
        self._random = random.Random(seed)
        self._arrive = arrive
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._timer = -1
        self._due = 0.0

    def begin(self) -> None:
        self._timer = self._libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._timer < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        asyncio.get_running_loop().add_reader(self._timer, self._wake)
        self._due = time.perf_counter()
        self._set()

    def end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._timer)
        os.close(self._timer)

    def _wake(self) -> None:
        os.read(self._timer, 8)
        now = time.perf_counter()
        while self._due <= now:
            self._arrive(self._due)
            self._due += self._random.expovariate(self._rate)
        self._set()

    def _set(self) -> None:
        seconds = int(self._due)
        at = _Instant(seconds, max(1, int((self._due - seconds) * 1e9)))
        setting = _Setting(_Instant(0, 0), at)
        if self._libc.timerfd_settime(self._timer, _ABSOLUTE, ctypes.byref(setting), None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime failed")
