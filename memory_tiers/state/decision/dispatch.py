"""Chooses which engine of a family serves a request, where there are several."""

from experts.engines.engine import EngineState
from memory_tiers.state.records.demand import Demand
from memory_tiers.state.records.expert_record import EngineRecord, ExpertRecord
from memory_tiers.state.records.records import Records

STICKS = 8
"""Leases by which the engine that has a conversation's prefix may be busier than another."""
SHARES = 2
"""Leases that an engine counts as less busy where it computes for the expert anyway."""
HOT = 8
"""Leases of an engine from which on its expert is brought to another that has at most half as many."""
CONVERSATIONS = 4096
_SOONEST: tuple[EngineState, ...] = ("ready", "starting", "stopped", "dead")


class Dispatch:
    """Chooses among the records of one expert, one for each engine of its family.

    1. Where it is on the device: the engine that had the conversation before, unless that is much busier than
       another; else the least busy, and of those the one that computes for it anyway.
    2. Where it is on its way to the device of an engine that runs, or waited for there.
    3. Else where a load can begin soonest: an engine that runs, has room and has the least to load before;
       one that sleeps has to wake for it; where none runs, one that starts.

    An engine that ends takes no tickets along: they go to another where there is one that runs.
    """

    def __init__(self, records: Records, demand: Demand) -> None:
        self._records = records
        self._demand = demand

    def __repr__(self) -> str:
        return f"<Dispatch of {len(self._records.conversations)} conversations>"

    def choose(self, expert: ExpertRecord, conversation: str) -> ExpertRecord:
        """Chooses for a new request of the expert, which may belong to a conversation."""
        if len(expert.replicas) == 1:
            return expert
        chosen = self._choose(expert, self._records.conversations.get(conversation))
        if conversation:
            self._remember(conversation, chosen.engine)
        self._spread(chosen)
        return chosen

    def place(self, expert: ExpertRecord) -> ExpertRecord:
        """Chooses where a load can begin soonest (3)."""
        return min(expert.replicas, key=self._until_it_loads)

    def redirect(self, engine: EngineRecord) -> None:
        """Has tickets that wait for experts on ``engine``, which does not run, wait on others that do."""
        for expert in [*engine.queued]:
            others = [other for other in expert.replicas if other.engine.state == "ready"]
            if expert.waiting and others:
                there = [other for other in others if self.at_hand(other)]
                self._demand.redirect(expert, there[0] if there else min(others, key=self._until_it_loads))

    def at_hand(self, expert: ExpertRecord) -> bool:
        """Whether the expert's engine can have another request for it now."""
        return expert.device.presence == "present" and expert.name not in self._records.victims

    def _choose(self, expert: ExpertRecord, before: str | None) -> ExpertRecord:
        there = [replica for replica in expert.replicas if self.at_hand(replica)]
        if there:
            least = min(there, key=_busy)  # 1
            own = next((replica for replica in there if replica.engine.family == before), least)
            return own if own.engine.leases <= least.engine.leases + STICKS else least
        coming = [
            replica
            for replica in expert.replicas
            if (replica.needed or replica.device.presence == "arriving") and replica.engine.state == "ready"
        ]
        return coming[0] if coming else self.place(expert)  # 2, 3

    def _until_it_loads(self, replica: ExpertRecord) -> tuple[int, bool, float, bool, int]:
        engine = replica.engine
        fits = self._records.device.fits(replica.device_bytes, engine.parts)
        load_s = replica.device_bytes * engine.seconds_per_byte if engine.seconds_per_byte else 1.0
        seconds = sum(1 for _ in engine.queued) * load_s + (engine.wake_s if engine.asleep else 0.0)
        return _SOONEST.index(engine.state), not fits, seconds, engine.asleep, engine.leases

    def _spread(self, chosen: ExpertRecord) -> None:
        """Wants an expert in demand on another engine too, if that costs no expert in as much demand."""
        busy = chosen.engine.leases
        if busy < HOT or chosen.arriving_elsewhere:
            return
        free = [
            replica
            for replica in chosen.replicas
            if replica.device.presence == "absent"
            and not replica.needed
            and replica.ordered is None
            and replica.engine.state == "ready"
            and not replica.engine.occupied
            and replica.engine.leases * 2 <= busy
        ]
        if free:
            replica = min(free, key=self._until_it_loads)
            self._demand.want(replica)
            replica.restored = replica.spread = True

    def _remember(self, conversation: str, engine: EngineRecord) -> None:
        known = self._records.conversations
        known.pop(conversation, None)
        known[conversation] = engine.family
        if len(known) > CONVERSATIONS:
            del known[next(iter(known))]


def _busy(replica: ExpertRecord) -> tuple[int, int]:
    engine = replica.engine
    return engine.leases - (SHARES if replica.leases else 0), engine.number
