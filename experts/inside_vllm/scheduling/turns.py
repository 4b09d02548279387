"""Decides which expert a step computes for: how the experts of one engine share its time.

Pure: it knows names and reads no clock; times are arguments, in seconds. So a trace of steps replays.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

_WEIGHT = 1 / 8
"""Weight of a new measurement in the smoothed one, so that switches are charged what they took in sum."""


@dataclass(frozen=True, slots=True)
class Limits:
    """``switch_overhead``: the share of a turn that the switch before it may cost. ``max_wait_s``: see
    Turns."""

    switch_overhead: float
    max_wait_s: float

    def __post_init__(self) -> None:
        if not 0 < self.switch_overhead <= 1:
            raise ValueError("switch_overhead must be above 0 and at most 1")


@dataclass(frozen=True, slots=True)
class Cost:
    """The time of a step: ``seconds`` in all, of them ``switch_seconds`` for the switch (0: there was
    none)."""

    seconds: float
    switch_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Step:
    """One decision and its outcome; ``cost`` is None when nothing could be computed. ``behind``: how many
    steps before it were not done when it was decided."""

    now: float
    working: tuple[str, ...]
    expert: str | None
    cost: Cost | None
    admitting: bool = False
    behind: int = 0


@dataclass(frozen=True, slots=True)
class Trace:
    """The first ``most`` steps of a ``Turns``; see ``replay``."""

    most: int
    steps: list[Step] = field(default_factory=list)

    def add(self, step: Step) -> None:
        if len(self.steps) < self.most:
            self.steps.append(step)


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """A step that was decided and is not done, of which turn it is, and for whom."""

    turn: int
    expert: str | None


class Turns:
    """The turns of an engine's experts. Every step is a call of ``next``, then one of ``done``; where steps
    are scheduled ahead the next one is decided before ``done``, which is told of steps in their order.

    1. The active expert keeps the engine while no other has work.
    2. It keeps it until its turn is *paid for*: a switch costs at most ``switch_overhead`` of the turn that
       follows. The cost is that of earlier switches, smoothed, until its own is known, which may be some
       steps later. A turn that began without a switch (no other has computed since) owes nothing.
    3. It keeps it while requests that waited when the turn began are being admitted, so that they share
       their batches from then on, unless a waiting expert would then wait longer than ``max_wait_s``.
    4. Otherwise the expert that has waited longest goes next. Waiting counts from the step in which work was
       first seen, or from the end of the expert's last turn; of equals the one named first by the caller
       goes first.
    5. An expert without work, or one that could not compute, gives up its turn at once.

    So turns are as short as the overhead allows, and with E experts at work none waits longer than the
    greater of ``max_wait_s`` and E - 1 turns that are just paid for. Where many experts or dear switches
    make the second one greater, *the overhead wins*: switching more often would cost all of them more than
    it gains one. Above both stands that the engine is never idle while an expert has work (5): the turns of
    experts that have little to compute can be too short to be paid for.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._queue: dict[str, float] = {}
        """The other experts with work, the one that has waited longest first, and since when they wait."""
        self._computed: str | None = None
        """The expert of the latest step that computed: the workers hold it."""
        self._switch_s: float | None = None
        self._step_s: float | None = None
        self._latest_s = 0.0
        self._under_way: deque[_UnderWay] = deque()
        self._turn = 0
        self._begin_turn(None)

    @property
    def active(self) -> str | None:
        return self._active

    @property
    def under_way(self) -> int:
        """Counts the steps that were decided and are not done."""
        return len(self._under_way)

    def next(self, now: float, working: Iterable[str]) -> str | None:
        """Returns the expert to compute for in this step, of those with work; None when there are none."""
        expert = self._decide(now, working)
        self._under_way.append(_UnderWay(self._turn, expert))
        return expert

    def done(self, cost: Cost | None, admitting: bool) -> None:
        """Notes the cost of the first step that is not done, None when it computed nothing. ``admitting``:
        see 3."""
        step = self._under_way.popleft()
        active = step.turn == self._turn
        if cost is None:
            if active:
                self._owed_s, self._admitting = 0.0, False  # 5
            return
        if cost.switch_seconds > 0:
            self._switch_s = _smoothed(self._switch_s, cost.switch_seconds)
            if active and self._switched:
                self._owed_s = self._switch_s / self._limits.switch_overhead
        self._computed = step.expert
        self._step_s = _smoothed(self._step_s, cost.seconds)
        self._latest_s = max(0.0, cost.seconds - cost.switch_seconds)
        if active:
            self._admitting = admitting
            self._last_step_s = cost.seconds
            self._turn_s += cost.seconds

    def _decide(self, now: float, working: Iterable[str]) -> str | None:
        names = dict.fromkeys(working)
        self._queue = {name: since for name, since in self._queue.items() if name in names}
        for name in names:
            if name != self._active:
                self._queue.setdefault(name, now)
        if self._active in names and (not self._queue or self._keeps(now)):  # 1
            return self._active
        if self._active in names:
            self._queue[self._active] = now
        first = next(iter(self._queue), None)
        self._begin_turn(first)  # 4
        if first is not None:
            del self._queue[first]
        return first

    def _keeps(self, now: float) -> bool:
        paid = self._turn_s + self._ahead_s()
        return paid < self._owed_s or (self._admitting and self._leaves_time(now))  # 2, 3

    def _ahead_s(self) -> float:
        """Foresees the seconds of the turn's steps that are not done, rather too few than too many: a turn
        that ends before it is paid for is worse than one that is a step longer."""
        each = min(self._step_s or 0.0, self._latest_s)
        return each * sum(step.turn == self._turn for step in self._under_way)

    def _leaves_time(self, now: float) -> bool:
        """Tells whether all waiting experts get their turns in time after one more step like the last."""
        turn = (self._switch_s or 0.0) / self._limits.switch_overhead + (self._step_s or 0.0)
        begins = now + self._last_step_s
        for since in self._queue.values():
            if begins > since + self._limits.max_wait_s:
                return False
            begins += turn
        return True

    def _begin_turn(self, expert: str | None) -> None:
        self._active = expert
        self._turn += 1
        self._turn_s, self._last_step_s = 0.0, 0.0
        computing = (step.expert for step in reversed(self._under_way) if step.expert is not None)
        self._switched: bool = expert != next(computing, self._computed)
        """Whether the workers had to change experts for this turn, which then has that to pay for."""
        self._owed_s = (self._switch_s or 0.0) / self._limits.switch_overhead if self._switched else 0.0
        self._admitting = False

    def __repr__(self) -> str:
        waiting = ", ".join(self._queue)
        return f"<Turns [active: {self._active} for {self._turn_s:.3f} s, waiting: {waiting}]>"


def replay(limits: Limits, trace: Iterable[Step]) -> list[str | None]:
    """Returns the decisions of a ``Turns`` whose steps, from its first one on, were these."""
    turns = Turns(limits)
    decisions = []
    under_way: deque[Step] = deque()
    for step in trace:
        while len(under_way) > step.behind:
            ended = under_way.popleft()
            turns.done(ended.cost, ended.admitting)
        decisions.append(turns.next(step.now, step.working))
        under_way.append(step)
    return decisions


def _smoothed(value: float | None, measured: float) -> float:
    return measured if value is None else value + _WEIGHT * (measured - value)
