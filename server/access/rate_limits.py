"""Counts what a key has used of its limits: plain state that is told the time, without waiting or I/O.

The rule of every limit: what a request may use is charged when it comes, and put right when it ends; all of
it belongs to the time at which it came. So over any 60 seconds, and over any day, the requests that came in
them have used no more than the limit, as long as no request uses more than was charged for it. One that does
is charged for the rest when it ends, and the next ones wait for that.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from server.config.api_keys import Limits

WINDOW_S = 60
DAY_S = 86_400
JUMP_S = 60
"""Seconds that the wall clock may be ahead of the steady one when a day begins."""

LimitName = Literal["concurrent", "requests", "tokens", "day"]


class Instant(NamedTuple):
    """One moment on two clocks. ``steady``: seconds of a clock that never goes back. ``utc``: seconds since
    1970."""

    steady: float
    utc: float

    @property
    def day(self) -> int:
        """Returns days since 1970, of UTC."""
        return int(self.utc // DAY_S)

    @property
    def until_midnight_s(self) -> float:
        return (self.day + 1) * DAY_S - self.utc


def now() -> Instant:
    return Instant(time.monotonic(), time.time())


class Window:
    """Counts what was charged in each second of the last minute, in at most 61 numbers. A second counts as
    long as any part of it is within the last 60 s, so that what is charged counts for 60 to 61 s."""

    def __init__(self) -> None:
        self._charged: dict[int, int] = {}
        self._used = 0

    def __repr__(self) -> str:
        return f"<Window {self._used} in {len(self._charged)} s>"

    def used(self, steady: float) -> int:
        self._forget(math.floor(steady))
        return self._used

    def charge(self, steady: float, amount: int) -> None:
        second = math.floor(steady)
        if second in self._charged:
            self._charged[second] += amount
        else:
            self._forget(second)
            self._charged[second] = amount
        self._used += amount

    def give_back(self, steady: float, amount: int) -> None:
        """Gives back some of what was charged at ``steady``, which may have left the window."""
        second = math.floor(steady)
        if second in self._charged:
            self._charged[second] -= amount
            self._used -= amount

    def ages(self, steady: float) -> dict[int, int]:
        """Returns what counts now, by how many whole seconds ago it was charged."""
        now = math.floor(steady)
        self._forget(now)
        return {now - second: amount for second, amount in self._charged.items() if amount}

    def fill(self, steady: float, parts: Sequence[Mapping[int, int]]) -> None:
        """Charges an empty window with what others had, by how many seconds ago."""
        now = math.floor(steady)
        for age in sorted({age for part in parts for age in part if age <= WINDOW_S}, reverse=True):
            amount = sum(part.get(age, 0) for part in parts)
            self._charged[now - age] = amount
            self._used += amount

    def _forget(self, now: int) -> None:
        """Forgets what was charged too long before second ``now``."""
        for second in list(self._charged):
            if second >= now - WINDOW_S:
                break
            self._used -= self._charged.pop(second)

    def wait_s(self, steady: float, most: int) -> float:
        """Returns the seconds until no more than ``most``, which is not negative, is used."""
        used = self.used(steady)
        if used <= most:
            return 0.0
        for second, amount in self._charged.items():
            used -= amount
            if used <= most:
                return second + WINDOW_S + 1 - steady
        raise AssertionError("unreachable: without any second nothing is used")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request was not let in. ``asked``: what it needs of ``limit``, of which ``used`` of ``most`` are
    in use. ``retry_after_s``: when it may be let in, if nothing else comes; None: never, as it asks for more
    than there ever is."""

    limit: LimitName
    most: int
    used: int
    asked: int
    retry_after_s: float | None


class Reservation(NamedTuple):
    """The charge for a request that was let in ``at`` a time, and the day that it counts for. ``offline``: it
    counts for that day alone."""

    at: Instant
    day: int
    tokens: int
    offline: bool = False


@dataclass(frozen=True, slots=True)
class Left:
    """The rest of one limit now. ``reset_s``: seconds until all of it is there, if nothing else comes."""

    limit: int
    remaining: int
    reset_s: float


@dataclass(frozen=True, slots=True)
class Remaining:
    """The rest of all limits that there are, ``at`` a time. ``of``: by requests and tokens."""

    at: Instant
    of: Mapping[Literal["requests", "tokens"], Left]


class RateLimits:
    """Counts for one key, whether it has limits or not, as these may come while the gateway serves."""

    def __init__(self, began: Instant | None = None, tokens: int = 0) -> None:
        """``tokens``: already used on the day of ``began``. ``began`` None: counting starts with the first
        request's day."""
        self.requests = Window()
        self.tokens = Window()
        self._open = 0
        self._day = 0
        self._day_ends = -math.inf  # on the steady clock
        self._day_tokens = 0
        if began is not None:
            self.day(began)
            self._day_tokens = tokens

    def __repr__(self) -> str:
        return (
            f"<RateLimits {self._open} open, requests {self.requests!r}, tokens {self.tokens!r}, "
            f"{self._day_tokens} tokens on day {self._day}>"
        )

    @property
    def day_tokens(self) -> int:
        """The tokens that were used or reserved on the day that is counted."""
        return self._day_tokens

    def take(self, open: int, day_tokens: int) -> None:
        """Adds what was counted elsewhere: requests under way, and tokens of this day."""
        self._open += open
        self._day_tokens += day_tokens

    @property
    def open(self) -> int:
        """The number of requests that were let in and have not ended."""
        return self._open

    def day(self, at: Instant) -> int:
        """Returns the day that is counted ``at`` that time: the wall clock's, which begins once the steady
        clock says that the day before has passed. So no day begins with a wall clock that jumps, and after a
        jump that is over the next one begins within a day."""
        if at.day != self._day and at.steady >= self._day_ends - JUMP_S:
            self._day, self._day_tokens = at.day, 0
            self._day_ends = at.steady + at.until_midnight_s
        return self._day

    def admit(self, limits: Limits, at: Instant, tokens: int) -> Reservation | Refusal:
        """Admits a request that may use ``tokens``, or returns why not, and then nothing is charged."""
        refusal = self._refusal(limits, at, tokens)
        if refusal is not None:
            return refusal
        self._open += 1
        self.requests.charge(at.steady, 1)
        self.tokens.charge(at.steady, tokens)
        self._day_tokens += tokens
        return Reservation(at, self._day, tokens)

    def admit_offline(self, limits: Limits, at: Instant, tokens: int) -> Reservation | Refusal:
        """Lets in a request for which no client waits: it counts for the day and for nothing else."""
        refusal = self._over_today(limits.tokens_per_day, at, tokens)
        if refusal is not None:
            return refusal
        self._day_tokens += tokens
        return Reservation(at, self._day, tokens, offline=True)

    def settle(self, reservation: Reservation, at: Instant, tokens: int) -> None:
        """Puts the charge right once the request has ended and used ``tokens``. To be told once."""
        over = tokens - reservation.tokens
        if self._day == reservation.day:
            self._day_tokens += over
        if reservation.offline:
            return
        self._open -= 1
        if over <= 0:
            self.tokens.give_back(reservation.at.steady, -over)
        else:
            self.tokens.charge(at.steady, over)

    def remaining(self, limits: Limits, at: Instant) -> Remaining:
        requests = _left(limits.requests_per_minute, self.requests, at)
        tokens = self._tokens_left(limits, at)
        of: dict[Literal["requests", "tokens"], Left] = {}
        if requests is not None:
            of["requests"] = requests
        if tokens is not None:
            of["tokens"] = tokens
        return Remaining(at, of)

    def _tokens_left(self, limits: Limits, at: Instant) -> Left | None:
        """Returns what is left of the minute's tokens, or of the day's where the minute has no limit. None:
        neither is limited."""
        if limits.tokens_per_minute is not None or limits.tokens_per_day is None:
            return _left(limits.tokens_per_minute, self.tokens, at)
        used = self._used_today(at)
        return Left(limits.tokens_per_day, max(0, limits.tokens_per_day - used), self._next_day_s(at))

    def _refusal(self, limits: Limits, at: Instant, tokens: int) -> Refusal | None:
        most = limits.concurrent_requests
        if most is not None and self._open >= most:
            return Refusal("concurrent", most, self._open, 1, retry_after_s=1.0)  # nobody knows when one ends
        return (
            _over("requests", limits.requests_per_minute, self.requests, at, 1)
            or _over("tokens", limits.tokens_per_minute, self.tokens, at, tokens)
            or self._over_today(limits.tokens_per_day, at, tokens)
        )

    def _over_today(self, most: int | None, at: Instant, tokens: int) -> Refusal | None:
        used = self._used_today(at)
        if most is None or used + tokens <= most:
            return None
        return Refusal("day", most, used, tokens, None if tokens > most else self._next_day_s(at))

    def _used_today(self, at: Instant) -> int:
        self.day(at)
        return self._day_tokens

    def _next_day_s(self, at: Instant) -> float:
        """Returns the seconds until the next day begins."""
        steady_s = self._day_ends - JUMP_S - at.steady
        return max(steady_s, at.until_midnight_s) if at.day == self._day else max(steady_s, 0.0)


def _over(name: LimitName, most: int | None, window: Window, at: Instant, asked: int) -> Refusal | None:
    if most is None:
        return None
    used = window.used(at.steady)
    if used + asked <= most:
        return None
    return Refusal(name, most, used, asked, None if asked > most else window.wait_s(at.steady, most - asked))


def _left(most: int | None, window: Window, at: Instant) -> Left | None:
    if most is None:
        return None
    return Left(most, max(0, most - window.used(at.steady)), window.wait_s(at.steady, 0))
