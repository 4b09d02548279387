"""Everything the tiers know, and the elementary changes that events and decisions are made of."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from memory_tiers.errors import RejectionReason
from memory_tiers.events import AbortMove, Action, Family, Grant, Member, Move, MoveReason, Priority, Reject
from memory_tiers.state.expert_record import NORMAL, PRIORITIES, EngineRecord, ExpertRecord
from memory_tiers.state.ledger import Copy, Ledger
from memory_tiers.state.policy import Policy, recency_weighted_use
from memory_tiers.state.ranking import Ranking
from memory_tiers.state.timers import Timers
from memory_tiers.tiers import Tier, TiersConfig


@dataclass(slots=True)
class Records:
    """``victims`` maps the experts that are to leave the device, and get no new leases, to the expert they
    make room for (None: to the budget, or to an order). ``ordered``: experts that shall go down.
    ``staging``: the copy to the host that is under way; ``aborting``: it is to end before its time.

    ``idle``, ``used`` and ``on_host`` rank who may leave: residents without leases, residents with leases,
    and host copies. ``expiries``: when idle residents have been there long enough. ``quiet_since``: when the
    last ticket ended; None while there are some, and once the defaults were called back.

    ``decision_due``: something changed that a decision may follow from. ``deadline``: when time alone will
    change one. ``device_turnovers``: how often all that is on the device has come anew."""

    device: Ledger
    host: Ledger
    policy: Policy
    ttl_s: float | None
    idle: Ranking
    used: Ranking
    on_host: Ranking
    engines: dict[str, EngineRecord] = field(default_factory=dict)
    experts: dict[str, ExpertRecord] = field(default_factory=dict)
    tickets: dict[int, ExpertRecord] = field(default_factory=dict)
    victims: dict[str, str | None] = field(default_factory=dict)
    ordered: dict[str, ExpertRecord] = field(default_factory=dict)
    expiries: Timers = field(default_factory=Timers)
    prefetched: dict[tuple[str, Tier], ExpertRecord] = field(default_factory=dict)
    """What a prefetch brought where, and nobody has used since."""
    prefetches: Counter[tuple[Tier, Literal["used", "wasted"]]] = field(default_factory=Counter)
    staging: Move | None = None
    aborting: bool = False
    waiting: int = 0
    queue_numbers: int = 0
    closing: bool = False
    quiet_since: float | None = None
    decision_due: bool = False
    deadline: float | None = None
    device_turnovers: float = 0.0
    host_turnovers: float = 0.0
    now: float = 0.0
    actions: list[Action] = field(default_factory=list)

    @classmethod
    def of(
        cls, config: TiersConfig, members: Sequence[Member], families: Sequence[Family], policy: Policy
    ) -> "Records":
        records = cls(
            device=Ledger(config.device),
            host=Ledger(config.host),
            policy=policy,
            ttl_s=config.ttl_s,
            idle=Ranking(policy, "device"),
            used=Ranking(policy, "device"),
            on_host=Ranking(policy, "host"),
        )
        for family in families:
            records.add_engine(family, holds=True)
        for member in members:
            records.add(member)
        return records

    def add_engine(self, family: Family, *, holds: bool) -> None:
        """``holds``: what it takes for itself is charged from now on, not only from its start."""
        self.engines[family.name] = EngineRecord(family.name, family.resident_limit, family.held, holds)
        if holds:
            self.device.hold(family.held)

    def add(self, member: Member) -> ExpertRecord:
        engine, size = self.engines[member.family], member.weights_bytes
        expert = ExpertRecord(
            member.name, engine, size, Copy(size), Copy(size), member.pinned, member.default, member.ttl_s
        )
        self.experts[member.name] = engine.members[member.name] = expert
        return expert

    def forget(self, expert: ExpertRecord) -> None:
        """It is nowhere, and nobody waits for it."""
        self.ordered.pop(expert.name, None)
        del self.experts[expert.name]
        del expert.engine.members[expert.name]

    def wake(self, at: float) -> None:
        """Time alone will change a decision then."""
        if at > self.now and (self.deadline is None or at < self.deadline):
            self.deadline = at

    def order(self, expert: ExpertRecord, tier: Tier, reason: MoveReason) -> None:
        """It goes down to ``tier``, unless somebody needs it higher up after it has left where it is. Who is
        removed goes all the way."""
        if expert.removed:
            tier, reason = "disk", "removed"
        expert.ordered, expert.order_reason = tier, reason
        self.ordered[expert.name] = expert
        self.decision_due = True

    def clear_order(self, expert: ExpertRecord) -> None:
        expert.ordered = None
        self.ordered.pop(expert.name, None)

    def wait(self, ticket: int, expert: ExpertRecord, priority: Priority = "normal") -> None:
        assert ticket not in self.tickets, ticket
        self.tickets[ticket] = expert
        expert.waiting[ticket] = self.now
        expert.cancelled = False
        self.waiting += 1
        self.quiet_since = None
        self._queue(expert, PRIORITIES.index(priority))

    def want(self, expert: ExpertRecord) -> None:
        if not expert.wanted and expert.device.presence != "present":
            expert.wanted, expert.cancelled = True, False
            self._queue(expert, NORMAL)

    def unwant(self, expert: ExpertRecord) -> None:
        expert.wanted = expert.restored = False
        self._forget(expert)

    def cancel(self, ticket: int) -> None:
        expert = self.tickets.pop(ticket)
        del expert.waiting[ticket]
        self.waiting -= 1
        self._ended()
        self._forget(expert)

    def admit(self, ticket: int, expert: ExpertRecord) -> None:
        """A lease without any waiting."""
        self.tickets[ticket] = expert
        self.quiet_since = None
        self._lease(ticket, expert)
        self._use(expert)

    def grant(self, expert: ExpertRecord) -> None:
        """Leases for everybody who waits for it. A lease counts from here."""
        for ticket in expert.waiting:
            self._lease(ticket, expert)
        self.waiting -= len(expert.waiting)
        if expert.waiting:
            expert.waiting.clear()
            self._use(expert)
        self.unwant(expert)

    def release(self, ticket: int) -> None:
        expert = self.tickets.pop(ticket)
        del expert.leases[ticket]
        expert.engine.leases -= 1
        expert.last_used = expert.engine.last_used = self.now
        self.rank(expert)
        self._ended()
        if not expert.leases:
            self.decision_due = True

    def reject(self, expert: ExpertRecord, reason: RejectionReason, message: str) -> None:
        """Everybody who waits for it, and our own wish and an operator's: the next ticket tries again."""
        for ticket in expert.waiting:
            del self.tickets[ticket]
            self.actions.append(Reject(ticket, reason, message))
        self.waiting -= len(expert.waiting)
        expert.waiting.clear()
        if reason in ("load_failed", "engine_failed"):
            expert.failure = message
        if expert.ordered == "device":
            self.clear_order(expert)
        self._ended()
        self.unwant(expert)

    def loaded(self, expert: ExpertRecord) -> None:
        expert.last_used = expert.loaded_at = expert.engine.last_used = self.now
        expert.failure = ""
        self.device_turnovers += 1 / sum(len(engine.residents) for engine in self.engines.values())

    def age_s(self, since: float) -> float:
        """Seconds, as actions and logs have them."""
        return round(self.now - since, 6)

    def drop(self, expert: ExpertRecord, reason: MoveReason, beneficiary: str | None = None) -> None:
        """Its host copy leaves."""
        age_s, size = self.age_s(expert.copied_at), expert.host.charged
        self.host.leave(expert.host)
        self.rank(expert)
        self.actions.append(
            Move(expert.name, "host", "disk", reason, beneficiary, age_s=age_s, gives_back=size)
        )

    def abort_reading(self, expert: ExpertRecord) -> None:
        """If it is being read. Whoever needs it nevertheless keeps it going."""
        if self.staging is None or self.staging.expert != expert.name or self.aborting or expert.needed:
            return
        self.aborting = True
        self.actions.append(AbortMove(self.staging))

    def staged(self, expert: ExpertRecord, size: int) -> None:
        self.staging, self.aborting = None, False
        expert.copied_at = self.now
        self.host.settle(expert.host, size)
        self.rank(expert)
        self.host_turnovers += 1 / len(self.on_host)

    def leave_host(self, expert: ExpertRecord) -> None:
        self.host.vanish(expert.host)
        expert.image = False
        self._prefetch_ended(expert, "host", "wasted")
        self.rank(expert)

    def leave_device(self, expert: ExpertRecord) -> None:
        self.device.vanish(expert.device)
        del expert.engine.residents[expert.name]
        self.victims.pop(expert.name, None)
        self._prefetch_ended(expert, "device", "wasted")
        self.rank(expert)

    def rank(self, expert: ExpertRecord) -> None:
        """After anything about it has changed that decides whether or when it may leave."""
        may_leave = expert.device.presence == "present" and not expert.pinned and not expert.stuck
        idle = may_leave and not expert.leases
        _keep(self.idle, expert, idle)
        _keep(self.used, expert, may_leave and not idle)
        _keep(self.on_host, expert, expert.host.presence == "present")
        ttl_s = self.ttl_s if expert.ttl_s is None else expert.ttl_s
        if idle and ttl_s is not None:
            self.expiries.set(expert.name, expert.last_used + ttl_s)
        else:
            self.expiries.clear(expert.name)

    def count_use(self, expert: ExpertRecord, chance: float = 1.0) -> None:
        """Somebody uses it, or will with this chance."""
        expert.device_use = recency_weighted_use(expert.device_use, self.device_turnovers, chance)
        expert.host_use = recency_weighted_use(expert.host_use, self.host_turnovers, chance)

    def needed(self) -> Iterator[ExpertRecord]:
        for engine in self.engines.values():
            yield from engine.queued

    def _lease(self, ticket: int, expert: ExpertRecord) -> None:
        expert.leases[ticket] = expert.engine.starts
        expert.engine.leases += 1
        self.count_use(expert)
        self.actions.append(Grant(ticket))

    def _use(self, expert: ExpertRecord) -> None:
        expert.last_used = expert.engine.last_used = self.now
        expert.stuck = False
        if self.prefetched:
            self._prefetch_ended(expert, "device", "used")
            self._prefetch_ended(expert, "host", "used")
        self.rank(expert)

    def _prefetch_ended(self, expert: ExpertRecord, tier: Tier, how: Literal["used", "wasted"]) -> None:
        if self.prefetched.pop((expert.name, tier), None) is not None:
            self.prefetches[tier, how] += 1

    def _ended(self) -> None:
        if not self.tickets:
            self.quiet_since = self.now
            self.decision_due = True

    def _queue(self, expert: ExpertRecord, priority: int) -> None:
        engine = expert.engine
        if expert.name not in engine.queues[expert.priority]:
            self.queue_numbers += 1
            expert.queue_number, expert.priority, expert.bound_hit = self.queue_numbers, priority, False
        elif priority < expert.priority:
            engine.dequeue(expert)
            expert.priority = priority
        else:
            return
        engine.enqueue(expert)
        self.decision_due = True

    def _forget(self, expert: ExpertRecord) -> None:
        if not expert.needed and expert.engine.dequeue(expert):
            self.decision_due = True


def _keep(ranking: Ranking, expert: ExpertRecord, member: bool) -> None:
    if member:
        ranking.put(expert)
    else:
        ranking.remove(expert)
