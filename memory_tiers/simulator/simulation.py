"""The virtual-clock driver: the gateway's own TierState and actions, without waiting."""

import heapq
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, assert_never

from memory_tiers.actions import (
    AbortMove,
    Action,
    Forget,
    Grant,
    Move,
    Reject,
    StartEngine,
    StopEngine,
)
from memory_tiers.events import (
    EngineStarted,
    EngineStopped,
    Event,
    LeaseReleased,
    MoveFinished,
    Opened,
    TicketAsked,
    TimePassed,
)
from memory_tiers.replicas import SEPARATOR, replica_name
from memory_tiers.simulator.compute_model import ComputeModel
from memory_tiers.simulator.trace import Request
from memory_tiers.tiers import Tier

FAMILY = "simulated"
"""All experts are of one family: one engine, spread over the whole node, or several with a part each."""


class Scheduler(Protocol):
    """Decides in a simulation: ``TierState``, or the swapper beside it."""

    def handle(self, event: Event) -> list[Action]:
        """Takes in the event and returns what is to be done, in order."""
        ...

    @property
    def deadline(self) -> float | None:
        """When TimePassed is due; None: never."""
        ...


@dataclass(frozen=True, slots=True)
class Node:
    """The seconds that moves and answers take. ``overlap``: whether the engine computes during a load.
    ``start_s``: added to each load; 0 where weights change in a running process. ``answer_s``: one answer
    of an expert of ``expert_bytes`` that runs alone. ``sizes``: bytes of the experts that have others."""

    expert_bytes: int
    load_bytes_per_s: float
    disk_bytes_per_s: float
    answer_s: float
    streams: int
    overlap: bool = True
    start_s: float = 0.0
    sizes: Mapping[str, int] = field(default_factory=dict)

    def bytes_of(self, expert: str) -> int:
        return self.sizes.get(expert, self.expert_bytes)

    def answer_seconds(self, expert: str) -> float:
        """Computes the seconds of an answer that runs alone: each token reads the expert's weights once."""
        return self.answer_s * self.bytes_of(expert) / self.expert_bytes

    def seconds(self, expert: str, source: Tier, target: Tier) -> float:
        """Computes the seconds of a move. Giving memory back takes none: weights are never written back."""
        size = self.bytes_of(expert)
        match source, target:
            case "host", "device":
                return self.start_s + size / self.load_bytes_per_s
            case "disk", "host":
                return size / self.disk_bytes_per_s
            case "disk", "device":
                return self.start_s + size / min(self.load_bytes_per_s, self.disk_bytes_per_s)
            case _:
                return 0.0


@dataclass(slots=True)
class ServedRequest:
    """One request, in seconds. ``hit``: whether its expert was on the device and free for it on arrival."""

    asked: float
    hit: bool
    wait_s: float
    latency_s: float


@dataclass(slots=True)
class TraceResult:
    """The result of a trace. ``moves``: loads to the device. ``staged``: reads from disk to the host."""

    served: list[ServedRequest] = field(default_factory=list)
    rejected: int = 0
    moves: int = 0
    staged: int = 0
    bytes_moved: int = 0
    switches: int = 0
    seconds: float = 0.0
    """From the first request to the last answer."""


@dataclass(slots=True)
class _OpenRequest:
    request: Request
    at: float
    served: ServedRequest | None = None


class Simulation:
    """Drives one scheduler through virtual time. Events at the same time come in the order in which they were
    caused, so that the same trace gives the same result."""

    def __init__(
        self,
        scheduler: Scheduler,
        node: Node,
        arriving: Callable[[str], None] = lambda expert: None,
        replicas: int = 1,
    ) -> None:
        """``arriving`` is told of every request of the trace just before the scheduler is. ``replicas``: how
        many engines the family has; ``node`` is then what one of them has."""
        self._scheduler = scheduler
        self._node = node
        self._arriving = arriving
        self._engines = {
            replica_name(FAMILY, number): ComputeModel(node.streams) for number in range(replicas)
        }
        self._at = 0.0
        self._moves: list[tuple[float, int, Move | StartEngine | StopEngine]] = []
        self._numbers = itertools.count(1)
        self._tickets: dict[int, _OpenRequest] = {}
        self._result = TraceResult()

    def warm_up(self, experts: Sequence[str]) -> None:
        """Starts the engine, then asks for one expert after another, and drops the figures. A trace then
        finds the experts that came last on the device, and as many more as fit on the host."""
        self._feed(Opened(self._at))
        self._until_idle()
        for expert in experts:
            self._ask(Request(self._at, expert))
            self._until_idle()
        self._result = TraceResult()
        for compute in self._engines.values():
            compute.switches = 0

    def run(
        self, requests: Iterable[Request], progress: Callable[[int], None] = lambda done: None
    ) -> TraceResult:
        """``progress`` is told how many requests have come so far."""
        began, done = self._at, 0
        for request in requests:
            at = began + request.at
            while self._next_at <= at:
                self._step()
            self._at = at
            self._arriving(request.expert)
            self._ask(request)
            done += 1
            if done % 1000 == 0:
                progress(done)
        self._until_idle()
        progress(done)
        result = self._result
        result.switches = sum(compute.switches for compute in self._engines.values())
        result.seconds = max((each.asked + each.latency_s for each in result.served), default=began) - began
        return result

    def _until_idle(self) -> None:
        """Steps until no move runs and no ticket is open; deadlines alone are not waited for."""
        while self._moves or self._tickets:
            self._step()

    @property
    def _next_at(self) -> float:
        deadline = self._scheduler.deadline
        return min(
            self._moves[0][0] if self._moves else float("inf"),
            self._ends_next.next_end,
            float("inf") if deadline is None else deadline,
        )

    @property
    def _ends_next(self) -> ComputeModel:
        """The engine whose next answer is the first to end."""
        return min(self._engines.values(), key=lambda compute: compute.next_end)

    def _compute(self, expert: str) -> ComputeModel:
        """The engine of an expert, by the name that it has on it."""
        _, separator, number = expert.rpartition(SEPARATOR)
        return self._engines.get(f"{FAMILY}{separator}{number}", self._engines[FAMILY])

    def _step(self) -> None:
        at = self._next_at
        if at == float("inf"):
            raise AssertionError(f"{len(self._tickets)} requests wait for ever in {self._scheduler!r}")
        self._at = max(self._at, at)
        if self._moves and self._moves[0][0] <= at:
            self._moved(heapq.heappop(self._moves)[2])
        elif (compute := self._ends_next).next_end <= at:
            self._answered(compute.end(self._at))
        else:
            self._feed(TimePassed(self._at))

    def _ask(self, request: Request) -> None:
        ticket = next(self._numbers)
        self._tickets[ticket] = _OpenRequest(request, self._at)
        self._feed(TicketAsked(ticket, request.expert, self._at), just_asked=ticket)

    def _feed(self, event: Event, just_asked: int | None = None) -> None:
        for action in self._scheduler.handle(event):
            match action:
                case Grant(ticket, engine):
                    self._granted(ticket, engine or FAMILY, hit=ticket == just_asked)
                case Reject(ticket):
                    del self._tickets[ticket]
                    self._result.rejected += 1
                case StartEngine() | Move():
                    self._begin(action)
                case StopEngine():
                    heapq.heappush(self._moves, (self._at, next(self._numbers), action))
                case AbortMove() | Forget():
                    raise AssertionError(f"nothing is aborted or removed here: {action}")
                case _:
                    assert_never(action)

    def _granted(self, ticket: int, engine: str, *, hit: bool) -> None:
        asked = self._tickets[ticket]
        asked.served = ServedRequest(asked.at, hit, self._at - asked.at, 0.0)
        self._result.served.append(asked.served)
        service_s = asked.request.service_s
        seconds = self._node.answer_seconds(asked.request.expert) if service_s is None else service_s
        self._engines[engine].begin(ticket, asked.request.expert, seconds, self._at)

    def _answered(self, ticket: int) -> None:
        asked = self._tickets.pop(ticket)
        assert asked.served is not None, ticket
        asked.served.latency_s = self._at - asked.at
        self._feed(LeaseReleased(ticket, self._at))

    def _begin(self, action: Move | StartEngine) -> None:
        target: Tier = "device" if isinstance(action, StartEngine) else action.target
        seconds = self._node.seconds(action.expert, action.source, target)
        heapq.heappush(self._moves, (self._at + seconds, next(self._numbers), action))
        if target == "device" and not self._node.overlap:
            self._compute(action.expert).halt(self._at)

    def _moved(self, action: Move | StartEngine | StopEngine) -> None:
        if isinstance(action, StopEngine):
            self._feed(EngineStopped(action.family, self._at, action.sleep))
            return
        size, result = self._node.bytes_of(action.expert), self._result
        if isinstance(action, StartEngine):
            self._load_ended(action.expert, size)
            self._feed(EngineStarted(action.family, action.expert, size, self._at))
            return
        upward = action.target == "device" or (action.source, action.target) == ("disk", "host")
        if action.target == "device":
            self._load_ended(action.expert, size)
        elif upward:
            result.staged += 1
            result.bytes_moved += size
        self._feed(MoveFinished(action, size if upward else 0, self._at))

    def _load_ended(self, expert: str, size: int) -> None:
        self._result.moves += 1
        self._result.bytes_moved += size
        if not self._node.overlap:
            self._compute(expert).resume(self._at)
