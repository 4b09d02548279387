"""Circuit breakers of all experts and engines, and the outcomes of requests that open and close them."""

import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, NamedTuple, Protocol

from experts.errors import EngineLost, EngineStalled, EngineUnavailable, ExpertNotResident
from experts.spec import Expert
from memory_tiers.errors import LeaseRejected
from server.errors import BreakerOpen

log = logging.getLogger("coe.requests")

Part = Literal["expert", "engine"]
BreakerStates = Mapping[tuple[str, str], tuple[float | None, int]]
"""Part and name of breakers, each with until when it refuses and its failures in a row."""
ENGINE_FAULTS = (EngineUnavailable, EngineLost, EngineStalled)


def blamed(error: BaseException | None) -> Part | None:
    """Returns the part at fault; None: neither is, as with a client's mistake."""
    match error:
        case LeaseRejected(reason="load_failed") | ExpertNotResident():
            return "expert"
        case LeaseRejected(reason="engine_failed"):
            return "engine"
        case BreakerOpen():
            return error.part
        case _:
            return "engine" if isinstance(error, ENGINE_FAULTS) else None


def broken_by(error: Exception, expert: Expert, experts: Mapping[str, Expert]) -> frozenset[str]:
    """Names those of ``experts`` that need not be asked after this ``error`` of a request for ``expert``."""
    match blamed(error):
        case "expert":
            return frozenset({expert.name})
        case "engine":
            return frozenset(name for name, other in experts.items() if other.family == expert.family)
        case None:
            return frozenset()


class Outcomes(Protocol):
    """Takes the outcome of one attempt. The first counts; later ones change nothing."""

    def answered(self, status: int) -> None:
        """Notes the engine's first bytes."""
        ...

    def ended(self) -> None:
        """Notes that a good answer was sent whole."""
        ...

    def over(self, error: BaseException | None) -> None:
        """Notes any other end."""
        ...


class Attempts(Protocol):
    """Begins attempts: implemented by ``Breakers``, in this process or through another."""

    def enter(self, expert: Expert) -> Outcomes:
        """Begins an attempt before a request asks for a lease. Raises BreakerOpen."""
        ...


class Breaker:
    """Circuit breaker of one expert, or of one engine. Times are seconds of the caller's clock.

    Closed: every request may pass. Open, after ``failures`` failures in a row: one request passes in each
    cool-down, the probe; the first bytes of its answer close it, and one failure more opens it again.

    An attempt has the number of failures before it. One that began before the latest failure says nothing
    new: neither the many that fail with the first, nor an answer that ends well though others have failed
    since.
    """

    def __init__(self, failures: int, cool_down_s: float) -> None:
        """``failures`` 0: it never opens."""
        self._failures = failures
        self._cool_down_s = cool_down_s
        self._failed = 0
        self._in_a_row = 0
        self._until: float | None = None  # the next probe may go then; None: closed

    def __repr__(self) -> str:
        state = "closed" if self._until is None else f"open until {self._until:.3f}"
        return f"<Breaker {state}, {self._in_a_row} failures in a row>"

    @property
    def is_open(self) -> bool:
        return self._until is not None

    @property
    def opened(self) -> tuple[float | None, int]:
        """Returns until when it refuses, None where it is closed, and the failures in a row."""
        return self._until, self._in_a_row

    @opened.setter
    def opened(self, state: tuple[float | None, int]) -> None:
        """Takes over the state of another process's breaker."""
        self._until, self._in_a_row = state

    @property
    def in_a_row(self) -> int:
        """Returns the failures since the last answer that ended well."""
        return self._in_a_row

    def refuses_s(self, now: float) -> float:
        """Seconds until it lets a request through; 0: now."""
        return 0.0 if self._until is None else max(0.0, self._until - now)

    def enter(self, now: float) -> int:
        """Begins an attempt that the breaker does not refuse. Returns its number."""
        if self._until is not None:
            assert self._until <= now, self
            self._until = now + self._cool_down_s
        return self._failed

    def answered(self, number: int) -> None:
        """Notes the first bytes of an answer."""
        if number == self._failed and self._until is not None:
            self._until = None
            self._in_a_row = self._failures - 1

    def ended(self, number: int) -> None:
        """Notes that an answer ended well."""
        if number == self._failed:
            self._until = None
            self._in_a_row = 0

    def failed(self, number: int, now: float) -> None:
        """Notes a failure that is the part's own fault."""
        if number != self._failed:
            return
        self._failed += 1
        self._in_a_row += 1
        if 0 < self._failures <= self._in_a_row:
            self._until = now + self._cool_down_s

    def left(self, number: int, now: float) -> None:
        """Notes an end that says nothing about the part: if it was the probe, the next request is."""
        if number == self._failed and self._until is not None:
            self._until = now


class Attempt(NamedTuple):
    """One attempt of a request for ``asked``. The first outcome counts; later ones change nothing."""

    asked: Expert
    expert: Breaker
    engine: Breaker
    expert_number: int
    engine_number: int
    clock: Callable[[], float]

    def answered(self, status: int) -> None:
        """Notes the engine's first bytes. vLLM answers 500 to some mistakes of clients, so a 5xx of an engine
        that keeps running says nothing: else one client could close an expert to all."""
        if status < 500:
            self.expert.answered(self.expert_number)
            self.engine.answered(self.engine_number)

    def ended(self) -> None:
        """Notes that a good answer was sent whole."""
        self.expert.ended(self.expert_number)
        self.engine.ended(self.engine_number)

    def over(self, error: BaseException | None) -> None:
        """Notes any other end: a client's own time-out, disconnect or mistake says nothing about the
        expert."""
        part = blamed(error)
        if part is None:
            self._left()
        else:
            self._failed(part, str(error))

    def _failed(self, part: Part, why: str) -> None:
        if part == "expert":
            who, breaker, number = f"expert {self.asked.name}", self.expert, self.expert_number
        else:
            who, breaker, number = f"engine {self.asked.family}", self.engine, self.engine_number
        was_open = breaker.is_open
        breaker.failed(number, self.clock())
        if breaker.is_open and not was_open:
            log.error("%s is not asked for now: it failed %d times in a row: %s", who, breaker.in_a_row, why)
        self._left()

    def _left(self) -> None:
        now = self.clock()
        self.expert.left(self.expert_number, now)
        self.engine.left(self.engine_number, now)


class Breakers:
    """Circuit breakers: a failure of the engine counts against its own breaker, one of an expert against the
    expert's."""

    def __init__(
        self, failures: int, cool_down_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``failures`` in a row open one; 0: never."""
        self._clock = clock
        self._experts = defaultdict[str, Breaker](lambda: Breaker(failures, cool_down_s))
        self._engines = defaultdict[str, Breaker](lambda: Breaker(failures, cool_down_s))

    def __repr__(self) -> str:
        named = {**self._engines, **self._experts}
        open_ = ", ".join(name for name, breaker in named.items() if breaker.is_open)
        return f"<Breakers [open: {open_ or 'none'}]>"

    def enter(self, expert: Expert) -> Attempt:
        """Begins an attempt before a request asks for a lease. Raises BreakerOpen."""
        mine, engine = self._experts[expert.name], self._engines[expert.family]
        now = self._clock()
        if engine.is_open or mine.is_open:
            self._check(engine, f"The engine of family {expert.family}", "engine", now)
            self._check(mine, f"The expert {expert.name}", "expert", now)
        return Attempt(expert, mine, engine, mine.enter(now), engine.enter(now), self._clock)

    def is_open(self, expert: Expert) -> bool:
        """Says whether the expert's or its engine's breaker is open, also while a probe is awaited."""
        return self._experts[expert.name].is_open or self._engines[expert.family].is_open

    @property
    def open(self) -> BreakerStates:
        """Returns the states of those that are open."""
        experts, engines = self._experts.items(), self._engines.items()
        return {("expert", name): each.opened for name, each in experts if each.is_open} | {
            ("engine", name): each.opened for name, each in engines if each.is_open
        }

    @open.setter
    def open(self, states: BreakerStates) -> None:
        """Takes over which ones are open in another process, whose clock is the same."""
        for kind, breakers in (("expert", self._experts), ("engine", self._engines)):
            for name in {*breakers} | {name for part, name in states if part == kind}:
                breakers[name].opened = states.get((kind, name), (None, 0))

    def refusing(self, families: Iterable[str]) -> dict[str, str]:
        """Returns the engines among ``families`` that no request reaches now, and why."""
        now = self._clock()
        return {
            family: f"failed {self._engines[family].in_a_row} times in a row"
            for family in families
            if self._engines[family].refuses_s(now) > 0
        }

    def _check(self, breaker: Breaker, who: str, part: Part, now: float) -> None:
        wait_s = breaker.refuses_s(now)
        if wait_s > 0:
            raise BreakerOpen(
                f"{who} failed {breaker.in_a_row} times in a row and is not asked for now; it is tried again "
                f"in {math.ceil(wait_s)} s. The gateway's log says what went wrong.",
                part,
                wait_s,
            )
