"""Decides which copies of weights the host holds: what is read from disk, and what goes for it."""

from collections.abc import Callable

from memory_tiers.actions import Move, MoveReason
from memory_tiers.state.records.expert_record import ExpertRecord
from memory_tiers.state.records.records import Records


class HostCopies:
    """Stages weights on the host one expert after another, beside whatever else goes on. ``promised``: within
    one decision, whether it is settled what is read next, even if the read could not begin yet."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self.promised = False

    def __repr__(self) -> str:
        return f"<HostCopies staging {self._records.staging}{' promised' if self.promised else ''}>"

    def begin(self) -> None:
        """Begins a decision; copies over a budget that became smaller go. A host that was found full gets its
        budget back after a while."""
        records = self._records
        if records.host_budget is not None:
            records.wake(records.host_full_until)
            if records.now >= records.host_full_until:
                records.host.resize(records.host_budget)
                records.host_budget = None
        self.promised = records.staging is not None
        for victim in self._victims(0) or []:
            records.drop(victim, "over_budget")

    def readable(self, expert: ExpertRecord, reason: MoveReason) -> bool:
        """Whether a load may read the weights where they are now; if not, starts to stage them on the host,
        or ends a prefetch that keeps them from being read."""
        records, host = self._records, self._records.host
        if expert.host.presence != "absent":
            return expert.host.presence == "present"
        if expert.weights_bytes == 0 or expert.weights_bytes > host.capacity:
            return True
        if self.promised:
            staging = records.staging
            if staging is not None and staging.reason == "prefetch":
                records.abort_reading(records.experts[staging.expert])
            return False
        image = expert.device_bytes if expert.engine.images else 0
        victims = self._victims(expert.weights_bytes + image)
        if victims is None:
            victims = self._victims(expert.weights_bytes)
        if victims is None:
            return True
        self._stage(expert, reason, victims)
        return False

    def prefetch(self, expert: ExpertRecord, worth_it: Callable[[ExpertRecord], bool]) -> bool:
        """Prefetches the expert from disk, when nothing else is promised, if all copies that would go for it
        are ``worth_it``, and says whether the read begins, or will once they have left."""
        victims = self._victims(expert.weights_bytes)
        if victims is None or not all(map(worth_it, victims)):
            return False
        self._stage(expert, "prefetch", victims)
        return True

    def order(self, expert: ExpertRecord) -> None:
        """Reads the expert from disk for an operator, as soon as that is possible."""
        if not self.promised:
            victims = self._victims(expert.weights_bytes)
            if victims is not None:
                self._stage(expert, "operator", victims)

    def _stage(self, expert: ExpertRecord, reason: MoveReason, victims: list[ExpertRecord]) -> None:
        """Drops the victims and begins to read once there is room; which copies go is decided anew then."""
        records, host = self._records, self._records.host
        self.promised = True
        for victim in victims:
            records.drop(victim, "eviction", expert.name)
        if host.free >= expert.weights_bytes:
            move = Move(expert.first.name, "disk", "host", reason)
            records.staging = move
            if reason == "prefetch":
                records.prefetched[expert.first.name, "host"] = expert.first
            expert.host.read_began = records.now
            expert.host.bytes = expert.weights_bytes
            host.arrive(expert.host)
            records.actions.append(move)

    def _victims(self, size: int) -> list[ExpertRecord] | None:
        """Finds the copies that go for ``size`` bytes; None when enough cannot go now. A copy that a load
        reads, or whose expert a ticket waits for, stays."""
        records = self._records
        if size > records.host.capacity:
            return None
        missing = size - records.host.free - records.host.leaving
        victims: list[ExpertRecord] = []
        while missing > 0:
            victim = records.rankings.on_host.first(lambda other: other not in victims and not in_use(other))
            if victim is None:
                return None
            victims.append(victim)
            missing -= victim.host.charged
        return victims


def in_use(expert: ExpertRecord) -> bool:
    """Whether a load of any engine reads the expert's host copy or will."""
    return any(
        replica.device.presence == "arriving" or (replica.needed and replica.device.presence != "present")
        for replica in expert.replicas
    )
