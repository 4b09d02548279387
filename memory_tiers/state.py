"""The tiers' state machine: events in, actions out. It never awaits, reads a clock, logs or does I/O."""

from collections.abc import Mapping, Sequence
from typing import assert_never

from experts.spec import Expert
from memory_tiers import invariants
from memory_tiers.books import Books
from memory_tiers.budget import check_budgets
from memory_tiers.errors import RejectionReason
from memory_tiers.events import (
    Action,
    DrainRequested,
    EngineDied,
    EngineStarted,
    EngineStartFailed,
    Event,
    LeaseReleased,
    Move,
    MoveFailed,
    MoveFinished,
    Opened,
    Reject,
    RestartDue,
    TicketAsked,
    TicketCancelled,
    TimePassed,
)
from memory_tiers.policy import Policy, policy_of
from memory_tiers.residency import Residency
from memory_tiers.residents import EngineRecord, ExpertRecord
from memory_tiers.status import Counts, EngineStatus, ExpertStatus, TierStatus
from memory_tiers.tiers import Tier, TiersConfig

ATTEMPTS = 2
"""How often in a row an engine's start may fail, or an expert's load kill its engine, before those who wait
are rejected. The next ticket tries again; an engine is tried again after a pause without one."""


class TierState:
    """Which experts are where, who waits, who holds a lease. Tickets are numbers the driver gives, each once.

    What an older ticket claims as its victim gets no new leases, so a stream of requests to one expert cannot
    starve another's first; see ``Residency`` for who is served when.
    """

    def __init__(
        self,
        config: TiersConfig,
        experts: Sequence[Expert],
        resident_limits: Mapping[str, int | None],
        policy: Policy | None = None,
        held: int = 0,
    ) -> None:
        """``resident_limits`` has ``Engine.resident_limit`` of each family, ``held`` is the sum of
        ``Engine.held_bytes``. ``policy``: instead of the configuration's. Raises BudgetTooSmall."""
        check_budgets(config, experts, resident_limits, held)
        self._config = config
        policy = policy_of(config.policy) if policy is None else policy
        self._books = Books.of(config, experts, resident_limits, policy, held)
        self._residency = Residency(self._books, config)

    def __repr__(self) -> str:
        books = self._books
        claims = ", ".join(f"{victim} for {rival or 'the budget'}" for victim, rival in books.claims.items())
        return (
            f"<TierState{' closing' if books.closing else ''} device={books.device!r} host={books.host!r} "
            f"staging={books.staging} claims=[{claims}] engines={list(books.engines.values())} "
            f"experts={list(books.experts.values())}>"
        )

    def check(self) -> None:
        """Raises AssertionError, with the whole state, when an invariant of the design is broken."""
        try:
            invariants.check(self._books)
        except AssertionError as error:
            raise AssertionError(f"{error} in {self!r}") from error

    def handle(self, event: Event) -> list[Action]:
        """Takes note of the event, decides, and returns what is to be done, in order."""
        self._books.now = event.at
        self._books.actions = []
        self._note(event)
        self._residency.decide()
        return self._books.actions

    @property
    def deadline(self) -> float | None:
        """The driver shall send TimePassed then, unless another event comes after that time; None: never."""
        return self._residency.deadline

    def _note(self, event: Event) -> None:
        if not isinstance(event, TicketAsked | TicketCancelled | LeaseReleased | TimePassed):
            self._books.unsettled = True
        match event:
            case TimePassed():
                pass
            case Opened():
                self._opened()
            case TicketAsked():
                self._asked(event)
            case TicketCancelled(ticket):
                self._books.cancel(ticket)
            case LeaseReleased(ticket):
                self._books.release(ticket)
            case MoveFinished():
                self._moved(event.move, event.bytes, event.image_bytes)
            case MoveFailed(move, reason):
                self._move_failed(move, reason)
            case EngineStarted(family, expert, size):
                self._started(self._books.engines[family], self._books.experts[expert], size)
            case EngineStartFailed(family, expert, reason):
                self._start_failed(self._books.engines[family], self._books.experts[expert], reason)
            case EngineDied(family, reason):
                self._died(self._books.engines[family], reason)
            case RestartDue(family):
                self._restart(self._books.engines[family])
            case DrainRequested():
                self._drain()
            case _:
                assert_never(event)

    def _opened(self) -> None:
        for engine in self._books.engines.values():
            self._want_engine(engine)

    def _want_engine(self, engine: EngineRecord) -> None:
        """The engine runs and holds what is pinned; with no pin any expert will do to start it."""
        restored = any(expert.restored for expert in engine.line.values())
        if engine.first is not None and not restored:
            self._books.want(engine.first)
        for expert in self._books.experts.values():
            if expert.pinned and expert.engine is engine:
                self._books.want(expert)

    def _asked(self, event: TicketAsked) -> None:
        refusal = self._refusal(event)
        if refusal is not None:
            self._books.actions.append(refusal)
            return
        expert = self._books.experts[event.expert]
        if self._at_hand(expert):
            self._books.admit(event.ticket, expert)
        else:
            self._books.wait(event.ticket, expert)

    def _at_hand(self, expert: ExpertRecord) -> bool:
        return expert.device.presence == "present" and expert.name not in self._books.claims

    def _refusal(self, event: TicketAsked) -> Reject | None:
        def refused(reason: RejectionReason, message: str) -> Reject:
            return Reject(event.ticket, reason, message)

        expert = self._books.experts.get(event.expert)
        if self._books.closing:
            return refused("shutting_down", "shutting down: ask another server, or again later")
        if expert is None:
            return refused("unknown_expert", f"there is no expert {event.expert}")
        if self._at_hand(expert):
            return None
        if event.fail_fast:
            return refused("not_resident", f"expert {expert.name} would have to wait: it is on {expert.tier}")
        if self._books.waiting >= self._config.max_queue:
            return refused("queue_full", f"{self._books.waiting} requests wait already: try again later")
        most = self._config.max_queue_per_expert
        if most is not None and len(expert.waiting) >= most:
            message = f"{len(expert.waiting)} requests wait for expert {expert.name} already: try again later"
            return refused("queue_full", message)
        return None

    def _moved(self, move: Move, size: int, image_bytes: int) -> None:
        books, expert = self._books, self._books.experts[move.expert]
        if move.target == "device":
            expert.load_seconds = books.now - expert.load_began
            expert.engine.took(expert.load_seconds, size)
            self._loaded(expert, move.replaces, size)
            self._image_left(move, image_bytes)
        elif move.source == "device":
            expert.engine.busy = None
            books.leave_device(expert)
        elif move.target == "host":
            books.staged(expert, size)
        else:
            books.leave_host(expert)

    def _image_left(self, move: Move, size: int) -> None:
        """What the host holds now that a load has ended: an image of ``size``, or the checkpoint, if it still
        was the checkpoint that the load found there."""
        expert = self._books.experts[move.expert]
        if not move.image:
            return
        expert.engine.images = size > 0
        if size > 0:
            self._books.host.recharge(expert.host, size)
            expert.image = True
        elif expert.image:
            self._books.leave_host(expert)
        else:
            self._books.host.recharge(expert.host, expert.weights_bytes)

    def _loaded(self, expert: ExpertRecord, replaces: str | None, size: int) -> None:
        books, engine = self._books, expert.engine
        engine.busy = None
        if replaces is not None:
            books.leave_device(books.experts[replaces])
        if engine.state != "ready":
            books.leave_device(expert)
            return
        expert.fatal_loads = 0
        expert.seconds_per_byte = engine.seconds_per_byte or 1.0
        books.loaded(expert)
        if expert.weights_bytes:  # a base among its adapters has none, and says nothing of theirs
            engine.scale = size / expert.weights_bytes
        books.device.settle(expert.device, size)
        self._stays(expert)

    def _stays(self, expert: ExpertRecord) -> None:
        """It is on the device and nobody has claimed it."""
        self._books.rank(expert)
        if not self._books.closing:
            self._books.grant(expert)

    def _move_failed(self, move: Move, reason: str) -> None:
        books, expert = self._books, self._books.experts[move.expert]
        if move.target == "device":
            self._load_failed(expert, move, reason)
        elif move.source == "device":
            self._eviction_failed(expert)
        elif move.target == "host":
            books.staging = None
            books.leave_host(expert)
            message = f"expert {expert.name} could not be read: {reason}"
            if expert.engine.state != "ready":
                expert.engine.detail = message
            books.reject(expert, "load_failed", message)
        else:
            books.host.stay(expert.host)
            books.rank(expert)
            if move.beneficiary is not None:
                message = f"no room on the host for expert {move.beneficiary}: {reason}"
                books.reject(books.experts[move.beneficiary], "load_failed", message)

    def _load_failed(self, expert: ExpertRecord, move: Move, reason: str) -> None:
        books, engine = self._books, expert.engine
        engine.busy = None
        books.leave_device(expert)
        if move.image and not expert.image:
            books.host.recharge(expert.host, expert.weights_bytes)
        replaced = books.experts[move.replaces] if move.replaces is not None else None
        if engine.state == "ready":
            if replaced is not None:
                books.device.stay(replaced.device)
                self._stays(replaced)
            books.reject(expert, "load_failed", f"expert {expert.name} could not be loaded: {reason}")
            if move.source == "host":  # the next try reads the disk, where it may have been mended
                books.host.leave(expert.host)
                books.rank(expert)
                books.actions.append(Move(expert.name, "host", "disk", "unusable"))
            return
        if replaced is not None:
            books.leave_device(replaced)
        expert.fatal_loads += 1
        if expert.fatal_loads >= ATTEMPTS:
            expert.fatal_loads = 0
            books.reject(expert, "load_failed", f"loading expert {expert.name} killed its engine: {reason}")

    def _eviction_failed(self, expert: ExpertRecord) -> None:
        expert.engine.busy = None
        if expert.engine.state == "ready":
            self._books.device.stay(expert.device)
            expert.stuck = True
            self._stays(expert)
        else:
            self._books.leave_device(expert)

    def _started(self, engine: EngineRecord, expert: ExpertRecord, size: int) -> None:
        engine.state, engine.detail, engine.failures = "ready", "", 0
        self._loaded(expert, None, size)
        for other in self._books.experts.values():
            if other.engine is engine:
                if other.pinned:
                    self._books.want(other)
                elif not other.restored:
                    self._books.unwant(other)

    def _start_failed(self, engine: EngineRecord, expert: ExpertRecord, reason: str) -> None:
        engine.state, engine.detail, engine.busy = "dead", reason, None
        engine.failures += 1
        self._books.leave_device(expert)
        if engine.failures >= ATTEMPTS:
            for other in list(engine.line.values()):
                message = f"the engine of family {engine.family} does not start: {reason}"
                self._books.reject(other, "engine_failed", message)

    def _died(self, engine: EngineRecord, reason: str) -> None:
        """What a running move is about is settled when the move ends. Leases stay until they are released."""
        assert engine.state == "ready", engine
        engine.state, engine.detail = "dead", reason
        held = [expert for expert in engine.residents.values() if expert.device.presence == "present"]
        for expert in held:
            self._books.leave_device(expert)
        if not self._books.closing:
            for expert in sorted(held, key=lambda expert: expert.last_used, reverse=True):
                self._books.want(expert)
                expert.restored = True
            self._want_engine(engine)

    def _restart(self, engine: EngineRecord) -> None:
        if engine.state == "dead" and not self._books.closing:
            self._want_engine(engine)

    def _drain(self) -> None:
        self._books.closing = True
        self._books.claims.clear()
        for expert in self._books.needed():
            self._books.reject(expert, "shutting_down", "shutting down: ask another server, or again later")

    def tier(self, expert: str) -> Tier:
        """The highest tier that holds ``expert``; unknown ones are nowhere above disk."""
        record = self._books.experts.get(expert)
        return "disk" if record is None else record.tier

    @property
    def counts(self) -> Counts:
        books = self._books
        moving = sum(engine.busy is not None for engine in books.engines.values())
        dropping = sum(expert.host.presence == "leaving" for expert in books.experts.values())
        moves = moving + dropping + (books.staging is not None)
        return Counts(books.waiting, len(books.tickets) - books.waiting, moves)

    @property
    def settled(self) -> bool:
        """Nothing we wish for ourselves, a pin or an engine, is still to come."""
        return not any(expert.wanted for expert in self._books.needed())

    def experts(self) -> tuple[ExpertStatus, ...]:
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
                device_bytes=expert.device.charged,
                host_bytes=expert.host.charged,
            )
            for expert in self._books.experts.values()
        )

    def tiers(self) -> tuple[TierStatus, ...]:
        books = self._books
        on_disk = sum(expert.weights_bytes for expert in books.experts.values())
        return (
            TierStatus("device", books.device.used, books.device.capacity),
            TierStatus("host", books.host.used, books.host.capacity),
            TierStatus("disk", on_disk, self._config.disk),
        )

    def engines(self) -> tuple[EngineStatus, ...]:
        return tuple(
            EngineStatus(engine.family, engine.state, engine.starts, engine.detail)
            for engine in self._books.engines.values()
        )
