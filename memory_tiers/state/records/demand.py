"""Tracks the demand for experts: waiting tickets, held leases, and what the tiers want themselves."""

from collections.abc import Iterator

from memory_tiers.actions import Grant, Reject
from memory_tiers.errors import RejectionReason
from memory_tiers.events import Priority
from memory_tiers.state.records.expert_record import NORMAL, PRIORITIES, ExpertRecord
from memory_tiers.state.records.records import Records


class Demand:
    """Puts each needed expert in one queue of its engine, from the moment the need begins until it ends."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def __repr__(self) -> str:
        return f"<Demand for {', '.join(expert.name for expert in self.needed()) or 'no expert'}>"

    def needed(self) -> Iterator[ExpertRecord]:
        """Yields every expert that a ticket waits for or that the tiers want."""
        for engine in self._records.engines.values():
            yield from engine.queued

    def wait(self, ticket: int, expert: ExpertRecord, priority: Priority) -> None:
        """Makes the new ticket wait for the expert."""
        records = self._records
        assert ticket not in records.tickets, ticket
        records.tickets[ticket] = expert
        expert.waiting[ticket] = records.now
        expert.cancelled = False
        records.waiting += 1
        records.quiet_since = None
        self._enqueue(expert, PRIORITIES.index(priority))

    def want(self, expert: ExpertRecord) -> None:
        """Wants the expert on the device though no ticket may wait for it."""
        if not expert.wanted and expert.device.presence != "present":
            expert.wanted, expert.cancelled = True, False
            self._enqueue(expert, NORMAL)

    def unwant(self, expert: ExpertRecord) -> None:
        """Ends what ``want`` began; tickets still wait."""
        expert.wanted = expert.restored = expert.spread = False
        self._dequeue(expert)

    def redirect(self, expert: ExpertRecord, other: ExpertRecord) -> None:
        """Has the tickets that wait for ``expert`` wait for ``other``, the same on another engine, or have
        their leases where it is at hand."""
        records, moved = self._records, {**expert.waiting}
        priority = expert.priority
        expert.waiting.clear()
        self._dequeue(expert)
        records.tickets.update(dict.fromkeys(moved, other))
        other.waiting = dict(sorted((other.waiting | moved).items()))  # the oldest has the lowest number
        if other.device.presence == "present" and other.name not in records.victims:
            self.grant(other)
        else:
            self._enqueue(other, priority)

    def cancel(self, ticket: int) -> None:
        """Ends a waiting ticket whose client left."""
        expert = self._records.tickets.pop(ticket)
        del expert.waiting[ticket]
        self._records.waiting -= 1
        self._ticket_ended()
        self._dequeue(expert)

    def admit(self, ticket: int, expert: ExpertRecord) -> None:
        """Grants the new ticket its lease without any waiting."""
        self._records.tickets[ticket] = expert
        self._records.quiet_since = None
        self._lease(ticket, expert)
        self._used(expert)

    def grant(self, expert: ExpertRecord) -> None:
        """Grants leases to all tickets that wait for the expert. A lease counts from here."""
        for ticket in expert.waiting:
            self._lease(ticket, expert)
        self._records.waiting -= len(expert.waiting)
        if expert.waiting:
            expert.waiting.clear()
            self._used(expert)
        self.unwant(expert)

    def release(self, ticket: int) -> None:
        """Ends a lease."""
        records = self._records
        expert = records.tickets.pop(ticket)
        del expert.leases[ticket]
        expert.engine.leases -= 1
        expert.last_used = expert.engine.last_used = records.now
        records.rank(expert)
        self._ticket_ended()
        if not expert.leases:
            records.decision_due = True

    def reject(self, expert: ExpertRecord, reason: RejectionReason, message: str) -> None:
        """Rejects all tickets that wait for the expert, and gives up what the tiers and an operator wanted of
        it. The next ticket tries again."""
        records = self._records
        for ticket in expert.waiting:
            del records.tickets[ticket]
            records.actions.append(Reject(ticket, reason, message))
        records.waiting -= len(expert.waiting)
        expert.waiting.clear()
        if reason in ("load_failed", "engine_failed"):
            expert.failure = message
        if expert.ordered == "device":
            records.clear_order(expert)
        self._ticket_ended()
        self.unwant(expert)

    def _lease(self, ticket: int, expert: ExpertRecord) -> None:
        expert.leases[ticket] = expert.engine.starts
        expert.engine.leases += 1
        self._records.count_use(expert)
        self._records.actions.append(Grant(ticket, expert.engine.family))

    def _used(self, expert: ExpertRecord) -> None:
        records = self._records
        expert.last_used = expert.engine.last_used = records.now
        expert.stuck = False
        if records.prefetched:
            records.prefetch_ended(expert, "device", "used")
            records.prefetch_ended(expert.first, "host", "used")
        records.rank(expert)

    def _ticket_ended(self) -> None:
        if not self._records.tickets:
            self._records.quiet_since = self._records.now
            self._records.decision_due = True

    def _enqueue(self, expert: ExpertRecord, priority: int) -> None:
        engine = expert.engine
        if expert.name not in engine.queues[expert.priority]:
            self._records.queue_numbers += 1
            expert.queue_number, expert.priority = self._records.queue_numbers, priority
            expert.bound_hit = False
        elif priority < expert.priority:
            engine.dequeue(expert)
            expert.priority = priority
        else:
            return
        engine.enqueue(expert)
        self._records.decision_due = True

    def _dequeue(self, expert: ExpertRecord) -> None:
        if not expert.needed and expert.engine.dequeue(expert):
            self._records.decision_due = True
