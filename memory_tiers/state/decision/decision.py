"""Makes the one decision: which experts move, and which tickets get leases."""

from memory_tiers.actions import MoveReason
from memory_tiers.state.decision.evictions import Evictions
from memory_tiers.state.decision.host_copies import HostCopies
from memory_tiers.state.decision.idle import IdleRules
from memory_tiers.state.decision.loads import Loads, needed_bytes
from memory_tiers.state.decision.ordered_moves import OrderedMoves
from memory_tiers.state.decision.prefetch import MARGIN, Prefetch
from memory_tiers.state.records.demand import Demand
from memory_tiers.state.records.expert_record import EngineRecord, ExpertRecord
from memory_tiers.state.records.records import Records
from memory_tiers.tiers import TiersConfig

LOOKAHEAD = 16
"""How many experts of each of an engine's queues a decision looks at: one of them may be loaded while those
before it are read from disk."""


class Decision:
    """``decide`` is called after every event and appends what is to be done to ``Records.actions``.

    1. Experts that have to leave though no other needs their place leave (``IdleRules``, ``OrderedMoves``),
       and so do the policy's victims if measurements, or a smaller budget, put a tier over its budget.
    2. Each engine's queues are served in order: first the experts whose oldest ticket has waited longer than
       ``max_wait_s``, then by priority those that tickets wait for, then those that are only to be restored.
       Of the first few:
       a. weights are staged on the host, if its budget allows, one expert after another, beside whatever else
          goes on; an expert that is being staged holds up none behind it;
       b. the first that could be loaded chooses victims until there is room: idle experts first, then those
          with leases; a victim gets no new leases, so it becomes idle. Behind the first only experts that
          have been waited for too long choose victims too: the others' experts serve meanwhile;
       c. victims without leases are evicted, one move per engine at a time;
       d. with room and a free engine, the expert is loaded, or its engine started with it.
       Room that one expert counts on is not given to another behind it. An expert that is only to be restored
       has no victims.
    3. When no ticket waits, what is likely to be wanted is prefetched.
    4. Tickets that wait for an expert that is no victim any more get their leases.

    Nothing is decided anew where nothing changed that a decision could follow from, and no expert is looked
    at that cannot be helped now: the cost does not grow with the number of experts, nor with that of tickets.
    """

    def __init__(self, records: Records, demand: Demand, config: TiersConfig) -> None:
        self._records = records
        self._demand = demand
        self._max_wait_s = config.max_wait_s
        self._evictions = Evictions(records, demand, config)
        self._copies = HostCopies(records)
        self._loads = Loads(records)
        self._ordered_moves = OrderedMoves(records, self._evictions, self._copies)
        self._idle_rules = IdleRules(records, demand, self._evictions, config)
        self.prefetch = Prefetch(records, self._evictions, self._copies, self._loads, config)

    def __repr__(self) -> str:
        return f"<Decision {self._evictions!r} {self._copies!r} {self._loads!r}>"

    def decide(self) -> None:
        """Decides if something has changed or the deadline has come."""
        records = self._records
        due = records.deadline is not None and records.now >= records.deadline
        if records.closing:
            records.deadline = None
            return
        if not records.decision_due and not due:
            return
        records.decision_due, records.deadline = False, None
        self._evictions.begin()
        self._copies.begin()
        self._idle_rules.order_expired()
        self._ordered_moves.carry_out()
        self._idle_rules.stop_engines()
        self._idle_rules.return_to_default()
        self._evictions.evict(self._evictions.shrink(), None, "over_budget")
        self._serve()
        self.prefetch.prefetch()
        self._evictions.end()
        self._idle_rules.return_to_default()  # all is quiet from now on if the last ticket was refused

    def _serve(self) -> None:
        """Serves, for each engine, the first expert that can be loaded, and those behind it that have been
        waited for too long."""
        first = [
            expert
            for engine in self._records.engines.values()
            for expert in engine.first_queued(LOOKAHEAD)
            if expert.device.presence == "absent"
        ]
        served: set[str] = set()
        for expert in sorted(first, key=self._urgency):
            overdue = self._overdue(expert)
            if overdue and not expert.bound_hit:
                expert.bound_hit = True
                expert.engine.bound_hits += 1
            if not overdue and expert.since is not None:
                self._records.wake(expert.since + self._max_wait_s)
            if (
                (overdue or expert.engine.family not in served)
                and self._copies.readable(expert, _reason(expert))
                and self._bring(expert)
            ):
                served.add(expert.engine.family)

    def _urgency(self, expert: ExpertRecord) -> tuple[bool, bool, bool, int, int]:
        """Orders the needed experts (2). An engine that does not run is not started with an expert that it
        failed to start with while tickets wait for others."""
        restored, overdue = expert.restored and not expert.waiting, self._overdue(expert)
        failed = bool(expert.failure) and expert.engine.state != "ready"
        return restored, failed, not overdue, 0 if overdue else expert.priority, expert.queue_number

    def _overdue(self, expert: ExpertRecord) -> bool:
        since = expert.since
        return since is not None and self._records.now >= since + self._max_wait_s

    def _bring(self, expert: ExpertRecord) -> bool:
        """Does what can be done now to have the expert on the device. False: it is given up, and the next one
        may be served."""
        records, engine, evictions = self._records, expert.engine, self._evictions
        replaced = evictions.choose_replaced(expert, self._overdue(expert)) if engine.full else None
        if engine.full and replaced is None:
            if all(other.pinned or other.stuck for other in engine.residents.values()):
                self._refuse(expert, f"its engine holds {engine.resident_limit} that cannot leave")
                return False
            return True
        size, parts = needed_bytes(expert), expert.device.parts
        needs = max(0, size - replaced.device.charged) if replaced else size
        if expert.restored and not expert.waiting and not evictions.has_room(needs, parts):
            if expert.spread and self._spread(expert, needs):
                return True
            self._demand.unwant(expert)
            return False
        before = {**evictions.room}
        victims = evictions.make_room(expert, needs, forced=self._overdue(expert))
        why = self._never_fits(expert, size) if evictions.short(parts) else None
        if why is not None:
            self._refuse(expert, why)
            evictions.room = before
            return False
        evictions.evict(victims, expert.name, "eviction")
        has_room = not evictions.short(parts) and records.device.fits(needs, parts)
        waits = engine.occupied or expert.arriving_elsewhere or (replaced is not None and replaced.leases)
        if has_room and not waits:
            self._loads.begin(expert, _reason(expert), replaced)
        return True

    def _spread(self, expert: ExpertRecord, needs: int) -> bool:
        """Makes room for an expert that another engine has too of idle ones that are used much less."""
        rank = self._records.rankings.policy.rank
        wanted = max(rank(replica, "device") for replica in expert.replicas)
        victims = self._evictions.make_room_of_idle(
            expert, needs, lambda victim: rank(victim, "device") + MARGIN < wanted
        )
        self._evictions.evict(victims or (), expert.name, "eviction")
        return bool(victims)

    def _never_fits(self, expert: ExpertRecord, size: int) -> str | None:
        """Says why ``size`` bytes of the expert have no room however long it waits; None where they may."""
        parts = expert.device.parts
        share = size // len(parts)
        for number in parts:
            immovable, capacity = self._immovable(number), self._records.device.parts[number].capacity
            if share + immovable > capacity:
                where, setting = (
                    (f"GPU {number}", "devices") if self._records.by_gpu else ("the device", "device")
                )
                return (
                    f"it needs {share:,} bytes on {where} beside {immovable:,} that cannot leave, over the "
                    f"budget of {capacity:,}: raise tiers.{setting}"
                )
        return None

    def _immovable(self, part: int) -> int:
        """Counts the bytes of a part of the device that will not become free however long an expert waits."""
        engines = [engine for engine in self._records.engines.values() if part in engine.parts]
        return sum(
            engine.held // len(engine.parts) for engine in engines if engine.holds and not _will_stop(engine)
        ) + sum(
            other.device.charged // len(engine.parts)
            for engine in engines
            for other in engine.residents.values()
            if other.pinned or (other.stuck and not other.removed)
        )

    def _refuse(self, expert: ExpertRecord, why: str) -> None:
        """Rejects the tickets of an expert that can never fit and releases its victims. Evictions that failed
        are tried again."""
        records = self._records
        for engine in records.engines.values():
            for other in engine.residents.values():
                if other.stuck:
                    other.stuck = False
                    records.rank(other)
        records.victims = {victim: rival for victim, rival in records.victims.items() if rival != expert.name}
        self._demand.reject(expert, "load_failed", f"expert {expert.name} could not be loaded: {why}")


def _will_stop(engine: EngineRecord) -> bool:
    """Whether the engine stops for want of experts."""
    return engine.leaving and not any(engine.queued)


def _reason(expert: ExpertRecord) -> MoveReason:
    if expert.waiting:
        return "ticket"
    return "operator" if expert.ordered == "device" else "preload"
