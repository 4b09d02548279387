"""Everything the tiers know, and the elementary changes that events and decisions are made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from experts.spec import Expert
from memory_tiers.errors import RejectionReason
from memory_tiers.events import Action, Grant, Reject
from memory_tiers.ledger import Copy, Ledger
from memory_tiers.residents import EngineRecord, ExpertRecord
from memory_tiers.tiers import TiersConfig


@dataclass(slots=True)
class Books:
    """``needed`` has the experts with waiting tickets or a wish. ``claims`` maps the experts that are to
    leave the device, and get no new leases, to the expert they make room for (None: to the budget).
    ``staging`` names the expert whose copy from disk to host is under way."""

    device: Ledger
    host: Ledger
    engines: dict[str, EngineRecord]
    experts: dict[str, ExpertRecord]
    tickets: dict[int, ExpertRecord] = field(default_factory=dict)
    needed: dict[str, ExpertRecord] = field(default_factory=dict)
    claims: dict[str, str | None] = field(default_factory=dict)
    staging: str | None = None
    waiting: int = 0
    orders: int = 0
    closing: bool = False
    now: float = 0.0
    actions: list[Action] = field(default_factory=list)

    @classmethod
    def of(
        cls, config: TiersConfig, experts: Sequence[Expert], resident_limits: Mapping[str, int | None]
    ) -> "Books":
        engines = {family: EngineRecord(family, limit) for family, limit in resident_limits.items()}
        records = {expert.name: _record(expert, engines[expert.family]) for expert in experts}
        return cls(Ledger(config.device), Ledger(config.host), engines, records)

    def wait(self, ticket: int, expert: ExpertRecord) -> None:
        assert ticket not in self.tickets, ticket
        self.orders += 1
        self.tickets[ticket] = self.needed[expert.name] = expert
        expert.waiting[ticket] = self.orders
        self.waiting += 1

    def want(self, expert: ExpertRecord) -> None:
        if expert.wanted is None and expert.device.presence != "present":
            self.orders += 1
            expert.wanted = self.orders
            self.needed[expert.name] = expert

    def unwant(self, expert: ExpertRecord) -> None:
        expert.wanted, expert.restored = None, False
        self._forget(expert)

    def cancel(self, ticket: int) -> None:
        expert = self.tickets.pop(ticket)
        del expert.waiting[ticket]
        self.waiting -= 1
        self._forget(expert)

    def grant(self, expert: ExpertRecord) -> None:
        """Everybody who waits for it. A lease counts from here."""
        for ticket in expert.waiting:
            expert.leases[ticket] = expert.engine.starts
            self.actions.append(Grant(ticket))
        if expert.waiting:
            expert.last_used, expert.stuck = self.now, False
        self.waiting -= len(expert.waiting)
        expert.waiting.clear()
        self.unwant(expert)

    def release(self, ticket: int) -> None:
        expert = self.tickets.pop(ticket)
        del expert.leases[ticket]
        expert.last_used = self.now

    def reject(self, expert: ExpertRecord, reason: RejectionReason, message: str) -> None:
        """Everybody who waits for it, our own wish included: the next ticket tries again."""
        for ticket in expert.waiting:
            del self.tickets[ticket]
            self.actions.append(Reject(ticket, reason, message))
        self.waiting -= len(expert.waiting)
        expert.waiting.clear()
        self.unwant(expert)

    def leave_host(self, expert: ExpertRecord) -> None:
        self.host.vanish(expert.host)
        expert.image = False

    def leave_device(self, expert: ExpertRecord) -> None:
        self.device.vanish(expert.device)
        del expert.engine.residents[expert.name]
        self.claims.pop(expert.name, None)

    def _forget(self, expert: ExpertRecord) -> None:
        if not expert.needed:
            self.needed.pop(expert.name, None)


def _record(expert: Expert, engine: EngineRecord) -> ExpertRecord:
    size = expert.weights_bytes
    record = ExpertRecord(expert.name, engine, size, expert.pinned, device=Copy(size), host=Copy(size))
    if engine.first is None or (expert.pinned and not engine.first.pinned):
        engine.first = record
    return record
