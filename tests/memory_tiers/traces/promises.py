"""Promises of the design about order and time, checked on events and actions alone."""

from dataclasses import dataclass, field

from memory_tiers.actions import Action, Grant, Move, Reject, StopEngine
from memory_tiers.events import (
    EngineDied,
    EngineStarted,
    EngineStartFailed,
    Event,
    ExpertChanged,
    HostFilled,
    LoadCancelled,
    MoveFailed,
    MoveFinished,
    Opened,
    OrderGiven,
    RestartDue,
    Revised,
)
from memory_tiers.tiers import TiersConfig
from tests.memory_tiers.traces.model import Model
from tests.memory_tiers.traces.model_expert import ModelExpert

AT_ONCE = ("queue_full", "not_resident", "unknown_expert")
"""Why a ticket is rejected that never waited."""
SOON = 1e-9
"""Seconds by which sums of times may be wrong."""


@dataclass
class Promises:
    """``granted``: experts with new leases since ``foremost`` has waited too long. ``wished``: experts that
    the tiers may want for themselves, so that events do not say how long they have been in line; ``lost``:
    those whose engine died with them. ``orders``: experts that were ordered somewhere. ``excused``: experts
    that may rightly get no new leases."""

    model: Model
    config: TiersConfig
    foremost: ModelExpert | None = None
    granted: set[str] = field(default_factory=set)
    wished: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    orders: set[str] = field(default_factory=set)
    excused: set[str] = field(default_factory=set)

    def take(self, event: Event, actions: list[Action]) -> None:
        """Takes in one event and the actions it led to, and checks each of them."""
        model = self.model
        foremost = self.foremost
        model.take_event(event)
        self._note(event)
        for action in actions:
            self._check(event, action, foremost)
            match action:
                case Reject(ticket, reason) if reason not in AT_ONCE and ticket in model.tickets:
                    self._wish_ended(model.tickets[ticket])
                case Grant(ticket):
                    self.excused.discard(model.tickets[ticket].name)
            model.take_action(action)
        self._check_waiting()
        self._choose_foremost()

    def _note(self, event: Event) -> None:
        experts = self.model.experts
        match event:
            case Opened() | Revised():
                self.wished |= experts.keys()
            case EngineDied(family):
                members = {name for name, each in experts.items() if each.member.family == family}
                self.wished |= members
                self.lost |= members
            case EngineStartFailed(family) | RestartDue(family):
                self.wished |= {name for name, each in experts.items() if each.member.family == family}
            case MoveFailed():
                self.wished |= experts.keys()
            case EngineStarted(family, name):
                self._wish_ended(experts[name])
                if all(engine.family.resident_limit != 1 for engine in self.model.engines.values()):
                    started = {n for n, e in experts.items() if e.member.family == family and not e.waiting}
                    self.wished -= started - self.lost - self.orders
            case MoveFinished(move) if move.target == "device" and experts[move.expert].engine.runs:
                self._wish_ended(experts[move.expert])
            case OrderGiven(name) | LoadCancelled(name):
                self.wished.add(name)
                self.orders.add(name)
        match event:
            case MoveFinished(move) if move.target == "device":
                self.foremost = None
            case MoveFailed() | HostFilled() | EngineDied() | EngineStartFailed() | EngineStarted():
                self.foremost = None
            case OrderGiven() | LoadCancelled() | ExpertChanged() | Revised():
                self.foremost = None

    def _wish_ended(self, expert: ModelExpert) -> None:
        self.wished.discard(expert.name)
        self.lost.discard(expert.name)
        self.orders.discard(expert.name)

    def _check(self, event: Event, action: Action, foremost: ModelExpert | None) -> None:
        match action:
            case Move() if action.target == "device":
                self._check_order(action)
                if action.replaces is not None:
                    self._check_residency(self.model.experts[action.replaces], action.expert, action)
            case Move(name, "device", _, "eviction", beneficiary):
                self._check_residency(self.model.experts[name], beneficiary, action)
            case StopEngine(family, "eviction", beneficiary):
                for resident in self.model.residents(self.model.engines[family]):
                    self._check_residency(resident, beneficiary, action)
            case Grant(ticket):
                if foremost is not None and foremost is self.foremost:
                    self._check_bound(foremost, self.model.tickets[ticket], action)
            case Reject(ticket) if isinstance(event, HostFilled):
                assert "cannot leave" in action.message, f"{action} though the disk can be read"
            case Reject(ticket) if isinstance(event, MoveFailed) and ticket in self.model.tickets:
                self._check_rejected(event.move, action, self.model.tickets[ticket])

    def _check_rejected(self, move: Move, rejection: Reject, expert: ModelExpert) -> None:
        """A failed move ends no tickets but those that waited for it, or that can never be served as things
        are."""
        never_fits = "cannot leave" in rejection.message
        concerned = expert.name in (move.expert, move.beneficiary)
        assert concerned or never_fits, f"{rejection} of {expert.name} after {move} failed"
        assert rejection.reason == "load_failed", rejection

    def _check_residency(self, leaving: ModelExpert, rival: str | None, action: Action) -> None:
        """6. Nobody makes room for a rival before ``min_residency_s``, but for one that waited too long."""
        least = self.config.min_residency_s
        if least is None:
            least = min(leaving.load_seconds, self.config.max_wait_s)
        if self.model.at < leaving.loaded_at + least - SOON:
            forced = rival is not None and self._overdue(self.model.experts[rival])
            assert forced, f"{action} at {self.model.at}, loaded at {leaving.loaded_at} for {least} s"

    def _check_waiting(self) -> None:
        """6. What is in use and came lately gets new leases, unless it had to go for what waited too long, or
        for the budget, or by an order. What had to go stays a victim until it gets a lease again."""
        model = self.model
        if self.config.min_residency_s is not None or self.config.ttl_s is not None:
            return
        experts = [each for each in model.experts.values() if each.device.presence == "present"]
        if model.over_budget or any(map(self._overdue, model.experts.values())):
            self.excused |= {each.name for each in experts}
        self.excused |= self.orders
        for expert in experts:
            if (
                expert.waiting
                and expert.leases
                and expert.name not in self.excused
                and expert.member.ttl_s is None
                and expert.name not in model.kept
            ):
                least = min(10 * expert.load_seconds, self.config.max_wait_s)
                assert model.at >= expert.loaded_at + least - SOON, f"{expert.name} gets no new leases"

    def _check_order(self, move: Move) -> None:
        """Nothing is loaded into an engine before what waits too long there, has a higher priority, or waits
        for longer at the same, if that could be read; nothing is prefetched while a ticket waits."""
        model, loaded = self.model, self.model.experts[move.expert]
        assert move.reason != "prefetch" or not any(each.waiting for each in model.experts.values()), move
        if self._overdue(loaded):
            return
        ours = self._place(loaded)
        for other in model.experts.values():
            if other is loaded or other.engine is not loaded.engine or not other.waiting:
                continue
            if other.device.presence != "absent" or not self._readable(other):
                continue
            assert not self._overdue(other), f"{move} goes before {other.name}, which waits too long"
            theirs = min(priority for _, priority in other.waiting.values())
            assert ours <= (theirs, other.need), (
                f"{move} {ours} goes before {other.name} {theirs, other.need}"
            )

    def _place(self, expert: ModelExpert) -> tuple[int, int]:
        """The place in line, or the best that it may be: a wish outlasts the tickets whose place it has."""
        return (0, 0) if self._may_be_wished(expert) else (expert.priority, expert.need)

    def _may_be_wished(self, expert: ModelExpert) -> bool:
        return expert.name in self.wished or expert.member.pinned or expert.member.default

    def _check_bound(self, foremost: ModelExpert, leased: ModelExpert, grant: Grant) -> None:
        """6. While one waits too long, so many of the others get leases that it still has a place. What is
        pinned stays whoever gets a lease; one that has no place beside that is refused."""
        model = self.model
        if leased is foremost or leased.member.pinned:
            return
        if not self._overdue(foremost) or not self._ready(foremost):
            return
        self.granted.add(leased.name)
        present = [each for each in model.experts.values() if each.device.presence == "present"]
        pinned = [each for each in present if each.member.pinned]
        granted = [
            each
            for each in present
            if each not in pinned and each.name in self.granted and (each.leases or not each.engine.busy)
        ]
        assert self._has_place(foremost, pinned + granted) or not self._has_place(foremost, pinned), (
            f"{grant} leaves {foremost.name} no place"
        )

    def _has_place(self, expert: ModelExpert, staying: list[ModelExpert]) -> bool:
        """Whether the expert can come to the device beside those."""
        model, engine = self.model, expert.engine
        limit = engine.family.resident_limit
        if limit is not None and sum(each.engine is engine for each in staying) >= limit:
            return False
        served = {each.engine.family.name for each in model.experts.values() if not each.removed}
        for gpu in engine.parts:
            shares = [
                each.device.bytes // len(each.engine.parts) for each in staying if gpu in each.engine.parts
            ]
            needed = expert.estimate // len(engine.parts) + sum(shares) + model.held_on(gpu, served)
            if needed > model.gpu_budgets[gpu]:
                return False
        return True

    def _choose_foremost(self) -> None:
        overdue = [each for each in self.model.experts.values() if self._overdue(each)]
        absent = [each for each in overdue if each.device.presence == "absent"]
        known = not any(map(self._may_be_wished, absent))
        foremost = min(absent, key=lambda each: each.need) if absent and known else None
        if foremost is None or not self._ready(foremost):
            foremost = None
        if foremost is not self.foremost:
            self.foremost, self.granted = foremost, set()

    def _ready(self, expert: ModelExpert) -> bool:
        return expert.engine.runs and self._readable(expert)

    def _readable(self, expert: ModelExpert) -> bool:
        """Whether a load of it can certainly begin where it is."""
        size, capacity = expert.member.weights_bytes, self.model.host_budget
        if expert.host.presence == "absent":
            return size == 0 or size > capacity
        return expert.host.presence == "present"

    def _overdue(self, expert: ModelExpert) -> bool:
        oldest = next(iter(expert.waiting.values()), None)
        return oldest is not None and self.model.at >= oldest[0] + self.config.max_wait_s
