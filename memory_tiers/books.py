"""Everything the tiers know, and the elementary changes that events and decisions are made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from experts.spec import Expert
from memory_tiers.errors import RejectionReason
from memory_tiers.events import Action, Grant, Reject
from memory_tiers.ledger import Copy, Ledger
from memory_tiers.policy import Policy, heated
from memory_tiers.ranking import Ranking
from memory_tiers.residents import EngineRecord, ExpertRecord
from memory_tiers.tiers import TiersConfig


@dataclass(slots=True)
class Books:
    """``claims`` maps the experts that are to leave the device, and get no new leases, to the expert they
    make room for (None: to the budget). ``staging`` names the expert whose copy to the host is under way.

    ``idle``, ``used`` and ``on_host`` rank who may leave: residents without leases, residents with leases,
    and host copies. ``unsettled``: something changed that a decision may follow from.
    ``device_turnovers``: how often all that is on the device has come anew."""

    device: Ledger
    host: Ledger
    engines: dict[str, EngineRecord]
    experts: dict[str, ExpertRecord]
    policy: Policy
    idle: Ranking
    used: Ranking
    on_host: Ranking
    tickets: dict[int, ExpertRecord] = field(default_factory=dict)
    claims: dict[str, str | None] = field(default_factory=dict)
    staging: str | None = None
    waiting: int = 0
    orders: int = 0
    closing: bool = False
    unsettled: bool = False
    device_turnovers: float = 0.0
    host_turnovers: float = 0.0
    now: float = 0.0
    actions: list[Action] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        config: TiersConfig,
        experts: Sequence[Expert],
        resident_limits: Mapping[str, int | None],
        policy: Policy,
        held: int,
    ) -> "Books":
        """``held``: bytes that engines take of the device, whoever is resident."""
        engines = {family: EngineRecord(family, limit) for family, limit in resident_limits.items()}
        records = {expert.name: _record(expert, engines[expert.family]) for expert in experts}
        return cls(
            device=Ledger(config.device, held),
            host=Ledger(config.host),
            engines=engines,
            experts=records,
            policy=policy,
            idle=Ranking(policy, "device"),
            used=Ranking(policy, "device"),
            on_host=Ranking(policy, "host"),
        )

    def wait(self, ticket: int, expert: ExpertRecord) -> None:
        assert ticket not in self.tickets, ticket
        self.tickets[ticket] = expert
        expert.waiting[ticket] = self.now
        self.waiting += 1
        self._queue(expert)

    def want(self, expert: ExpertRecord) -> None:
        if not expert.wanted and expert.device.presence != "present":
            expert.wanted = True
            self._queue(expert)

    def unwant(self, expert: ExpertRecord) -> None:
        expert.wanted = expert.restored = False
        self._forget(expert)

    def cancel(self, ticket: int) -> None:
        expert = self.tickets.pop(ticket)
        del expert.waiting[ticket]
        self.waiting -= 1
        self._forget(expert)

    def admit(self, ticket: int, expert: ExpertRecord) -> None:
        """A lease without any waiting."""
        self.tickets[ticket] = expert
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
        expert.last_used = self.now
        self.rank(expert)
        if not expert.leases:
            self.unsettled = True

    def reject(self, expert: ExpertRecord, reason: RejectionReason, message: str) -> None:
        """Everybody who waits for it, our own wish included: the next ticket tries again."""
        for ticket in expert.waiting:
            del self.tickets[ticket]
            self.actions.append(Reject(ticket, reason, message))
        self.waiting -= len(expert.waiting)
        expert.waiting.clear()
        self.unwant(expert)

    def loaded(self, expert: ExpertRecord) -> None:
        expert.last_used = expert.loaded_at = self.now
        self.device_turnovers += 1 / sum(len(engine.residents) for engine in self.engines.values())

    def staged(self, expert: ExpertRecord, size: int) -> None:
        self.staging = None
        self.host.settle(expert.host, size)
        self.rank(expert)
        self.host_turnovers += 1 / len(self.on_host)

    def leave_host(self, expert: ExpertRecord) -> None:
        self.host.vanish(expert.host)
        expert.image = False
        self.rank(expert)

    def leave_device(self, expert: ExpertRecord) -> None:
        self.device.vanish(expert.device)
        del expert.engine.residents[expert.name]
        self.claims.pop(expert.name, None)
        self.rank(expert)

    def rank(self, expert: ExpertRecord) -> None:
        """After anything about it has changed that decides whether or when it may leave."""
        present = expert.device.presence == "present"
        may_leave = present and not expert.pinned and not expert.stuck and expert.engine.gives_back
        idle = may_leave and not expert.leases
        _keep(self.idle, expert, idle)
        _keep(self.used, expert, may_leave and not idle)
        _keep(self.on_host, expert, expert.host.presence == "present")

    def needed(self) -> list[ExpertRecord]:
        return [expert for engine in self.engines.values() for expert in engine.line.values()]

    def _lease(self, ticket: int, expert: ExpertRecord) -> None:
        expert.leases[ticket] = expert.engine.starts
        expert.device_heat = heated(expert.device_heat, self.device_turnovers)
        expert.host_heat = heated(expert.host_heat, self.host_turnovers)
        self.actions.append(Grant(ticket))

    def _use(self, expert: ExpertRecord) -> None:
        expert.last_used, expert.stuck = self.now, False
        self.rank(expert)

    def _queue(self, expert: ExpertRecord) -> None:
        if expert.name not in expert.engine.line:
            self.orders += 1
            expert.order = self.orders
            expert.engine.line[expert.name] = expert
            self.unsettled = True

    def _forget(self, expert: ExpertRecord) -> None:
        if not expert.needed and expert.engine.line.pop(expert.name, None) is not None:
            self.unsettled = True


def _keep(ranking: Ranking, expert: ExpertRecord, member: bool) -> None:
    if member:
        ranking.put(expert)
    else:
        ranking.remove(expert)


def _record(expert: Expert, engine: EngineRecord) -> ExpertRecord:
    size = expert.weights_bytes
    record = ExpertRecord(expert.name, engine, size, expert.pinned, device=Copy(size), host=Copy(size))
    if engine.first is None or (expert.pinned and not engine.first.pinned):
        engine.first = record
    return record
