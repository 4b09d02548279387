"""The tiers' state machine: events in, actions out. It never awaits, reads a clock, logs or does I/O."""

from collections.abc import Sequence
from typing import assert_never

from memory_tiers.actions import Action, Reject
from memory_tiers.errors import RejectionReason
from memory_tiers.events import (
    DrainRequested,
    EngineDied,
    EngineStarted,
    EngineStartFailed,
    EngineStopped,
    Event,
    ExpertChanged,
    Foreseen,
    HostFilled,
    LeaseReleased,
    LoadCancelled,
    MoveFailed,
    MoveFinished,
    Opened,
    OrderGiven,
    RestartDue,
    Revised,
    TicketAsked,
    TicketCancelled,
    TimePassed,
)
from memory_tiers.feasibility import check_members
from memory_tiers.members import Family, Member
from memory_tiers.replicas import on_each_engine
from memory_tiers.state import invariants
from memory_tiers.state.configured_members import ConfiguredMembers
from memory_tiers.state.decision.decision import Decision
from memory_tiers.state.decision.dispatch import Dispatch
from memory_tiers.state.orders import Orders
from memory_tiers.state.outcomes import Outcomes
from memory_tiers.state.records.demand import Demand
from memory_tiers.state.records.policy import Policy, policy_of
from memory_tiers.state.records.records import Records
from memory_tiers.state.revisions import Revisions
from memory_tiers.state.status_view import StatusView
from memory_tiers.tiers import TiersConfig

SHUTTING_DOWN = "shutting down: ask another server, or again later"


class TierState:
    """Knows which experts are where, which tickets wait and which hold a lease. Tickets are numbers that the
    driver gives, each once.

    A victim of an older ticket gets no new leases, so a stream of requests for one expert cannot starve
    another expert's first; see ``Decision`` for which is served when.
    """

    def __init__(
        self,
        config: TiersConfig,
        members: Sequence[Member],
        families: Sequence[Family],
        policy: Policy | None = None,
    ) -> None:
        """``policy``: in place of the configured one. Raises BudgetTooSmall."""
        members = on_each_engine(members, families)
        check_members(config, members, families)
        self._config = config
        policy = policy_of(config.policy) if policy is None else policy
        self._records = Records.of(config, members, families, policy)
        self._demand = Demand(self._records)
        self._decision = Decision(self._records, self._demand, config)
        self._dispatch = Dispatch(self._records, self._demand)
        self._outcomes = Outcomes(self._records, self._demand, self._decision.prefetch, self._dispatch)
        self.configured = ConfiguredMembers(self._records, config)
        self.orders = Orders(self._records, self._demand, self.configured, self._dispatch)
        self.revisions = Revisions(self._records, self._demand, self.configured, self.orders, self._outcomes)
        self.status = StatusView(self._records, self._demand, config)

    def __repr__(self) -> str:
        records = self._records
        victims = ", ".join(
            f"{victim} for {rival or 'the budget'}" for victim, rival in records.victims.items()
        )
        return (
            f"<TierState{' closing' if records.closing else ''} device={records.device!r} "
            f"host={records.host!r} staging={records.staging} victims=[{victims}] "
            f"engines={list(records.engines.values())} experts={list(records.experts.values())}>"
        )

    def check(self) -> None:
        """Raises AssertionError, with the whole state, when an invariant of the design is broken."""
        try:
            invariants.check(self._records)
        except AssertionError as error:
            raise AssertionError(f"{error} in {self!r}") from error

    def handle(self, event: Event) -> list[Action]:
        """Takes in the event, decides, and returns what is to be done, in order."""
        self._records.now = event.at
        self._records.actions = []
        self._take_in(event)
        self._decision.decide()
        return self._records.actions

    @property
    def deadline(self) -> float | None:
        """When the driver shall send TimePassed, unless another event comes after that time; None: never."""
        return self._records.deadline

    def _take_in(self, event: Event) -> None:
        match event:
            case TicketAsked():
                self._ask(event)
            case LeaseReleased(ticket):
                self._demand.release(ticket)
            case TicketCancelled(ticket):
                self._demand.cancel(ticket)
            case Foreseen(chances):
                self._decision.prefetch.foresee(chances)
            case TimePassed():
                pass
            case _:
                self._records.decision_due = True
                self._take_in_change(event)

    def _take_in_change(self, event: Event) -> None:
        records, outcomes, orders = self._records, self._outcomes, self.orders
        match event:
            case MoveFinished():
                outcomes.moved(event.move, event.bytes, event.image_bytes)
            case MoveFailed(move, reason):
                outcomes.move_failed(move, reason, event.device_full)
            case HostFilled(move, size):
                outcomes.host_filled(move, size)
            case EngineStarted(family, expert, size):
                outcomes.started(records.engines[family], records.experts[expert], size)
            case EngineStartFailed(family, expert, reason):
                outcomes.start_failed(records.engines[family], records.experts[expert], reason)
            case EngineStopped(family):
                outcomes.stopped(records.engines[family], asleep=event.asleep)
            case EngineDied(family, reason):
                outcomes.died(records.engines[family], reason)
            case Opened():
                self._open()
            case RestartDue(family):
                self._restart(family)
            case OrderGiven(expert, tier):
                orders.order(records.experts[expert], tier)
            case LoadCancelled(expert):
                orders.cancel(records.experts[expert])
            case ExpertChanged(member):
                orders.change(member)
            case Revised(revision):
                self.revisions.revise(revision)
            case DrainRequested():
                self._drain()
            case TicketAsked() | LeaseReleased() | TicketCancelled() | Foreseen() | TimePassed():
                raise AssertionError(event)
            case _:
                assert_never(event)

    def _open(self) -> None:
        for engine in self._records.engines.values():
            self._outcomes.want_engine(engine)
        for expert in self._records.experts.values():
            if expert.default:
                self._demand.want(expert)

    def _restart(self, family: str) -> None:
        engine = self._records.engines.get(family)
        if engine is not None and engine.state == "dead" and not self._records.closing:
            self._outcomes.want_engine(engine)

    def _ask(self, event: TicketAsked) -> None:
        refusal = self._refusal(event)
        if refusal is not None:
            self._records.actions.append(refusal)
            return
        expert = self._dispatch.choose(self._records.experts[event.expert], event.conversation)
        expert.kept_s = event.keep_s
        if self._dispatch.at_hand(expert):
            self._demand.admit(event.ticket, expert)
        else:
            self._demand.wait(event.ticket, expert, event.priority)

    def _refusal(self, event: TicketAsked) -> Reject | None:
        def refused(reason: RejectionReason, message: str) -> Reject:
            return Reject(event.ticket, reason, message)

        records, expert = self._records, self._records.experts.get(event.expert)
        if records.closing:
            return refused("shutting_down", SHUTTING_DOWN)
        if expert is None or expert.removed or expert.expert != event.expert:
            return refused("unknown_expert", f"there is no expert {event.expert}")
        if any(map(self._dispatch.at_hand, expert.replicas)):
            return None
        if event.fail_fast:
            return refused("not_resident", f"expert {expert.name} would have to wait: it is on {expert.tier}")
        if records.waiting >= self._config.max_queue:
            return refused("queue_full", _full(f"{records.waiting} requests wait", records.waiting))
        most = self._config.max_queue_per_expert
        waiting = sum(len(replica.waiting) for replica in expert.replicas)
        if most is not None and waiting >= most:
            message = f"{waiting} requests wait for expert {expert.name}"
            return refused("queue_full", _full(message, waiting))
        return None

    def _drain(self) -> None:
        records = self._records
        records.closing = True
        records.victims.clear()
        for expert in [*self._demand.needed()]:
            self._demand.reject(expert, "shutting_down", SHUTTING_DOWN)


def _full(what_waits: str, waiting: int) -> str:
    return f"{what_waits} already, and this one would be number {waiting + 1}: try again later"
