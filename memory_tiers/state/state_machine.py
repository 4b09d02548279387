"""The tiers' state machine: events in, actions out. It never awaits, reads a clock, logs or does I/O."""

from collections.abc import Sequence
from typing import assert_never

from memory_tiers.errors import RejectionReason
from memory_tiers.events import (
    Action,
    DrainRequested,
    EngineDied,
    EngineStarted,
    EngineStartFailed,
    EngineStopped,
    Event,
    ExpertChanged,
    Family,
    Foreseen,
    LeaseReleased,
    LoadCancelled,
    Member,
    MoveFailed,
    MoveFinished,
    Opened,
    OrderGiven,
    Reject,
    RestartDue,
    Revised,
    TicketAsked,
    TicketCancelled,
    TimePassed,
)
from memory_tiers.feasibility import check_members
from memory_tiers.state import invariants
from memory_tiers.state.decision import Decision
from memory_tiers.state.expert_record import ExpertRecord
from memory_tiers.state.orders_and_revisions import Changes
from memory_tiers.state.outcomes import Outcomes
from memory_tiers.state.policy import Policy, policy_of
from memory_tiers.state.records import Records
from memory_tiers.status import EngineStatus, ExpertStatus, OpenCounts, Tally, TierStatus
from memory_tiers.tiers import Tier, TiersConfig

SHUTTING_DOWN = "shutting down: ask another server, or again later"


class TierState:
    """Which experts are where, who waits, who holds a lease. Tickets are numbers the driver gives, each once.

    What an older ticket claims as its victim gets no new leases, so a stream of requests to one expert cannot
    starve another's first; see ``Decision`` for who is served when.
    """

    def __init__(
        self,
        config: TiersConfig,
        members: Sequence[Member],
        families: Sequence[Family],
        policy: Policy | None = None,
    ) -> None:
        """``policy``: instead of the configuration's. Raises BudgetTooSmall."""
        check_members(config, members, families)
        self._config = config
        policy = policy_of(config.policy) if policy is None else policy
        self._records = Records.of(config, members, families, policy)
        self._decision = Decision(self._records, config)
        self._outcomes = Outcomes(self._records, self._decision.prefetch)
        self.changes = Changes(self._records, config, self._outcomes)

    def __repr__(self) -> str:
        records = self._records
        victims = ", ".join(
            f"{victim} for {rival or 'the budget'}" for victim, rival in records.victims.items()
        )
        return (
            f"<TierState{' closing' if records.closing else ''} device={records.device!r} "
            f"host={records.host!r} staging={records.staging} victims=[{victims}] "
            f"engines={list(records.engines.values())} "
            f"experts={list(records.experts.values())}>"
        )

    def check(self) -> None:
        """Raises AssertionError, with the whole state, when an invariant of the design is broken."""
        try:
            invariants.check(self._records)
        except AssertionError as error:
            raise AssertionError(f"{error} in {self!r}") from error

    def handle(self, event: Event) -> list[Action]:
        """Takes note of the event, decides, and returns what is to be done, in order."""
        self._records.now = event.at
        self._records.actions = []
        self._note(event)
        self._decision.decide()
        return self._records.actions

    @property
    def deadline(self) -> float | None:
        """The driver shall send TimePassed then, unless another event comes after that time; None: never."""
        return self._records.deadline

    def _note(self, event: Event) -> None:
        match event:
            case TicketAsked():
                self._asked(event)
            case LeaseReleased(ticket):
                self._records.release(ticket)
            case TicketCancelled(ticket):
                self._records.cancel(ticket)
            case Foreseen(chances):
                self._decision.prefetch.foresee(chances)
            case TimePassed():
                pass
            case _:
                self._records.decision_due = True
                self._note_change(event)

    def _note_change(self, event: Event) -> None:
        records, outcomes, changes = self._records, self._outcomes, self.changes
        match event:
            case MoveFinished():
                outcomes.moved(event.move, event.bytes, event.image_bytes)
            case MoveFailed(move, reason):
                outcomes.move_failed(move, reason)
            case EngineStarted(family, expert, size):
                outcomes.started(records.engines[family], records.experts[expert], size)
            case EngineStartFailed(family, expert, reason):
                outcomes.start_failed(records.engines[family], records.experts[expert], reason)
            case EngineStopped(family):
                outcomes.stopped(records.engines[family])
            case EngineDied(family, reason):
                outcomes.died(records.engines[family], reason)
            case Opened():
                self._opened()
            case RestartDue(family):
                self._restart(family)
            case OrderGiven(expert, tier):
                changes.order(records.experts[expert], tier)
            case LoadCancelled(expert):
                changes.cancel(records.experts[expert])
            case ExpertChanged(member):
                changes.change(member)
            case Revised(revision):
                changes.revise(revision)
            case DrainRequested():
                self._drain()
            case TicketAsked() | LeaseReleased() | TicketCancelled() | Foreseen() | TimePassed():
                raise AssertionError(event)
            case _:
                assert_never(event)

    def _opened(self) -> None:
        for engine in self._records.engines.values():
            self._outcomes.want_engine(engine)
        for expert in self._records.experts.values():
            if expert.default:
                self._records.want(expert)

    def _restart(self, family: str) -> None:
        engine = self._records.engines.get(family)
        if engine is not None and engine.state == "dead" and not self._records.closing:
            self._outcomes.want_engine(engine)

    def _asked(self, event: TicketAsked) -> None:
        refusal = self._refusal(event)
        if refusal is not None:
            self._records.actions.append(refusal)
            return
        expert = self._records.experts[event.expert]
        if self._at_hand(expert):
            self._records.admit(event.ticket, expert)
        else:
            self._records.wait(event.ticket, expert, event.priority)

    def _at_hand(self, expert: ExpertRecord) -> bool:
        return expert.device.presence == "present" and expert.name not in self._records.victims

    def _refusal(self, event: TicketAsked) -> Reject | None:
        def refused(reason: RejectionReason, message: str) -> Reject:
            return Reject(event.ticket, reason, message)

        records, expert = self._records, self._records.experts.get(event.expert)
        if records.closing:
            return refused("shutting_down", SHUTTING_DOWN)
        if expert is None or expert.removed:
            return refused("unknown_expert", f"there is no expert {event.expert}")
        if self._at_hand(expert):
            return None
        if event.fail_fast:
            return refused("not_resident", f"expert {expert.name} would have to wait: it is on {expert.tier}")
        if records.waiting >= self._config.max_queue:
            return refused("queue_full", _full(f"{records.waiting} requests wait", records.waiting))
        most = self._config.max_queue_per_expert
        if most is not None and len(expert.waiting) >= most:
            waiting = len(expert.waiting)
            message = f"{waiting} requests wait for expert {expert.name}"
            return refused("queue_full", _full(message, waiting))
        return None

    def _drain(self) -> None:
        records = self._records
        records.closing = True
        records.victims.clear()
        for expert in [*records.needed()]:
            records.reject(expert, "shutting_down", SHUTTING_DOWN)

    def tier(self, expert: str) -> Tier:
        """The highest tier that holds ``expert``; unknown ones are nowhere above disk."""
        record = self._records.experts.get(expert)
        return "disk" if record is None else record.tier

    def knows(self, expert: str) -> bool:
        """Also one that is not configured any more but has not left yet."""
        return expert in self._records.experts

    def others_wait(self, expert: str) -> bool:
        """Whether somebody waits for another expert than ``expert``."""
        record = self._records.experts.get(expert)
        return self._records.waiting > (0 if record is None else len(record.waiting))

    @property
    def counts(self) -> OpenCounts:
        records = self._records
        moving = sum(engine.occupied for engine in records.engines.values())
        dropping = sum(expert.host.presence == "leaving" for expert in records.experts.values())
        moves = moving + dropping + (records.staging is not None)
        return OpenCounts(records.waiting, len(records.tickets) - records.waiting, moves)

    @property
    def settled(self) -> bool:
        """Nothing we wish for ourselves, a pin or an engine, is still to come."""
        return not any(expert.wanted for expert in self._records.needed())

    @property
    def tally(self) -> Tally:
        return Tally(dict(self._records.prefetches))

    def experts(self) -> tuple[ExpertStatus, ...]:
        """Those that are configured."""
        return tuple(
            ExpertStatus(
                expert=expert.name,
                family=expert.engine.family,
                tier=expert.tier,
                device=expert.device.presence,
                host=expert.host.presence,
                pinned=expert.pinned,
                leases=len(expert.leases),
                waiting=len(expert.waiting),
                weights_bytes=expert.weights_bytes,
                device_bytes=expert.device.charged,
                host_bytes=expert.host.charged,
                image=expert.image,
                default=expert.default,
                ttl_s=expert.ttl_s if expert.ttl_s is not None else self._config.ttl_s,
                ordered=expert.ordered,
                failure=expert.failure,
            )
            for expert in self._records.experts.values()
            if not expert.removed
        )

    def tiers(self) -> tuple[TierStatus, ...]:
        device, host = self._records.device, self._records.host
        on_disk = sum(expert.weights_bytes for expert in self._records.experts.values())
        return (
            TierStatus("device", device.used, device.arriving, device.capacity),
            TierStatus("host", host.used, host.arriving, host.capacity),
            TierStatus("disk", on_disk, 0, self._config.disk),
        )

    def engines(self) -> tuple[EngineStatus, ...]:
        return tuple(
            EngineStatus(
                family=engine.family,
                state=engine.state,
                starts=engine.starts,
                detail=engine.detail,
                rests=(engine.state == "stopped" or engine.stopping) and not any(engine.queued),
                bound_hits=engine.bound_hits,
            )
            for engine in self._records.engines.values()
        )


def _full(who_waits: str, waiting: int) -> str:
    return f"{who_waits} already, and this one would be number {waiting + 1}: try again later"
