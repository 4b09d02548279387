"""Holds everything the tiers know, and changes where copies are said to be."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from memory_tiers.actions import AbortMove, Action, Move, MoveReason
from memory_tiers.members import Family, Member
from memory_tiers.state.records.expert_record import EngineRecord, ExpertRecord
from memory_tiers.state.records.ledger import ALL, Copy, HostCopy, Ledger, whole
from memory_tiers.state.records.policy import Policy
from memory_tiers.state.records.rankings import Rankings
from memory_tiers.state.records.recency_weighted_use import recency_weighted_use
from memory_tiers.status import PrefetchUse
from memory_tiers.tiers import Tier, TiersConfig


@dataclass(slots=True)
class Records:
    """``victims`` maps experts that are to leave the device, and get no new leases, to the expert they make
    room for (None: the budget or an order wants it). ``ordered``: experts with an order to go down.
    ``staging``: the copy to the host under way; ``aborting``: whether it is to end early.

    ``host_budget``: the configured budget of the host while it can hold less, which it is thought to until
    ``host_full_until``; None otherwise.

    ``quiet_since``: when the last ticket ended; None while there are some, and once the defaults were called
    back. ``decision_due``: whether something changed that a decision may follow from. ``deadline``: when time
    alone will change a decision. ``device_turnovers`` and ``host_turnovers``: how often the contents of a
    tier were replaced. ``actions``: what the current event has led to so far."""

    device: Ledger
    host: Ledger
    rankings: Rankings
    by_gpu: bool = False
    """Whether the device has a budget for each GPU."""
    engines: dict[str, EngineRecord] = field(default_factory=dict)
    experts: dict[str, ExpertRecord] = field(default_factory=dict)
    tickets: dict[int, ExpertRecord] = field(default_factory=dict)
    victims: dict[str, str | None] = field(default_factory=dict)
    ordered: dict[str, ExpertRecord] = field(default_factory=dict)
    prefetched: dict[tuple[str, Tier], ExpertRecord] = field(default_factory=dict)
    """Prefetched copies that no request has used yet."""
    prefetches: Counter[tuple[Tier, PrefetchUse]] = field(default_factory=Counter)
    conversations: dict[str, str] = field(default_factory=dict)
    """The engine that the last request of a conversation had, of the latest ``CONVERSATIONS``."""
    staging: Move | None = None
    aborting: bool = False
    host_budget: int | None = None
    host_full_until: float = 0.0
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
        """Records the configured experts, all of them on disk, and their engines, which do not run."""
        rankings = Rankings(policy, config.ttl_s)
        by_gpu = bool(config.devices)
        records = cls(Ledger(config.device_parts), Ledger(config.host), rankings, by_gpu=by_gpu)
        for family in families:
            records.add_engine(family, holds=True)
        for member in members:
            records.add(member)
        return records

    def add_engine(self, family: Family, *, holds: bool) -> None:
        """Adds an engine. ``holds``: charge what it takes for itself from now on, not only from its start."""
        parts = family.devices if self.by_gpu else (ALL,)
        held = whole(family.held, parts)
        number = sum(engine.serves == family.serves for engine in self.engines.values())
        self.engines[family.name] = EngineRecord(
            family,
            family.name,
            family.resident_limit,
            held,
            holds,
            parts,
            serves=family.serves,
            number=number,
            sleep_after_s=family.sleep_after_s,
        )
        if holds:
            self.device.hold(held, parts)

    def add(self, member: Member) -> ExpertRecord:
        """Adds an expert of a family that is there."""
        engine = self.engines[member.family]
        first = self.experts.get(member.known_as)
        expert = ExpertRecord(
            member.name,
            engine,
            member.weights_bytes,
            Copy(parts=engine.parts),
            HostCopy() if first is None else first.host,
            [] if first is None else first.replicas,
            member.known_as,
            member.pinned,
            member.default,
            member.ttl_s,
        )
        expert.seconds_per_byte = self.seconds_per_byte(engine)
        expert.replicas.append(expert)
        self.experts[member.name] = engine.members[member.name] = expert
        return expert

    def families(self) -> list[Family]:
        """Describes the engines as they were configured."""
        return [engine.configured for engine in self.engines.values()]

    def seconds_per_byte(self, engine: EngineRecord) -> float:
        """Seconds that a byte takes to the engine's device, as far as loads were measured: else to another's,
        else 1."""
        measured = (each.seconds_per_byte for each in (engine, *self.engines.values()))
        return next((seconds for seconds in measured if seconds is not None), 1.0)

    def forget(self, expert: ExpertRecord) -> None:
        """Drops an expert that is in no tier and that no ticket waits for."""
        del self.ordered[expert.name]
        del self.experts[expert.name]
        del expert.engine.members[expert.name]
        expert.replicas.remove(expert)

    def wake(self, at: float) -> None:
        """Asks for a decision at ``at``, as time alone will change it then."""
        if at > self.now and (self.deadline is None or at < self.deadline):
            self.deadline = at

    def order(self, expert: ExpertRecord, tier: Tier, reason: MoveReason) -> None:
        """Orders the expert down to ``tier``, until a request needs it again after it has left. A removed
        expert goes all the way to disk."""
        if expert.removed:
            tier, reason = "disk", "removed"
        expert.ordered, expert.order_reason = tier, reason
        self.ordered[expert.name] = expert
        self.decision_due = True

    def clear_order(self, expert: ExpertRecord) -> None:
        """Ends the expert's order, carried out or given up."""
        expert.ordered = None
        self.ordered.pop(expert.name, None)

    def loaded(self, expert: ExpertRecord) -> None:
        """Notes that a load of the expert to the device has just ended."""
        expert.last_used = expert.loaded_at = expert.engine.last_used = self.now
        expert.failure = ""
        self.device_turnovers += 1 / sum(len(engine.residents) for engine in self.engines.values())

    def age_s(self, since: float) -> float:
        """Seconds since then, rounded as actions and logs have them."""
        return round(self.now - since, 6)

    def drop(self, expert: ExpertRecord, reason: MoveReason, beneficiary: str | None = None) -> None:
        """Gives the expert's host copy back."""
        age_s, size = self.age_s(expert.host.copied_at), expert.host.charged
        self.host.leave(expert.host)
        self.rank(expert)
        self.actions.append(
            Move(expert.first.name, "host", "disk", reason, beneficiary, age_s=age_s, gives_back=size)
        )

    def abort_reading(self, expert: ExpertRecord) -> None:
        """Ends the read of the expert from disk if one is under way and no ticket or wish needs it."""
        if self.staging is None or self.staging.expert != expert.first.name or self.aborting:
            return
        if any(replica.needed for replica in expert.replicas):
            return
        self.aborting = True
        self.actions.append(AbortMove(self.staging))

    def staged(self, expert: ExpertRecord, size: int) -> None:
        """Notes that the expert's copy of ``size`` bytes has arrived on the host."""
        self.staging, self.aborting = None, False
        expert.host.copied_at = self.now
        self.host.settle(expert.host, size)
        self.rank(expert)
        self.host_turnovers += 1 / len(self.rankings.on_host)

    def leave_host(self, expert: ExpertRecord) -> None:
        """Notes that the expert has no copy on the host any more, or never got one."""
        self.host.vanish(expert.host)
        expert.host.image = False
        self.prefetch_ended(expert.first, "host", "wasted")
        self.rank(expert)

    def leave_device(self, expert: ExpertRecord) -> None:
        """Notes that the expert is not on the device any more, or never came."""
        self.device.vanish(expert.device)
        expert.stuck = False
        del expert.engine.residents[expert.name]
        self.victims.pop(expert.name, None)
        self.prefetch_ended(expert, "device", "wasted")
        self.rank(expert)

    def rank(self, expert: ExpertRecord) -> None:
        """Ranks the expert anew. Called after every change that decides whether or when it may leave."""
        self.rankings.update(expert)

    def count_use(self, expert: ExpertRecord, chance: float = 1.0) -> None:
        """Adds a use of the expert that happens with probability ``chance``."""
        expert.device_use = recency_weighted_use(expert.device_use, self.device_turnovers, chance)
        first = expert.first
        first.host_use = recency_weighted_use(first.host_use, self.host_turnovers, chance)

    def prefetch_ended(self, expert: ExpertRecord, tier: Tier, use: PrefetchUse) -> None:
        """Counts a prefetched copy as used or wasted, if the expert has one in ``tier``."""
        if self.prefetched.pop((expert.name, tier), None) is not None:
            self.prefetches[tier, use] += 1
