"""Carries out orders as far as they can be now: an operator's, a removal's or those of a ``ttl_s``."""

from memory_tiers.actions import Forget
from memory_tiers.state.decision.evictions import Evictions
from memory_tiers.state.decision.host_copies import HostCopies, in_use
from memory_tiers.state.records.expert_record import ExpertRecord
from memory_tiers.state.records.records import Records


class OrderedMoves:
    """Sends experts where they are ordered to be.

    1. An expert that is ordered down gets no new leases, leaves the device when its last lease is released,
       and the host when no load reads its copy. Requests that ask for it meanwhile wait until it has left,
       and have it loaded again.
    2. An expert that is ordered to the host is read from disk.
    3. A removed expert leaves once no ticket waits for it, and is forgotten.
    """

    def __init__(self, records: Records, evictions: Evictions, copies: HostCopies) -> None:
        self._records = records
        self._evictions = evictions
        self._copies = copies

    def __repr__(self) -> str:
        return f"<OrderedMoves of {', '.join(self._records.ordered) or 'no expert'}>"

    def carry_out(self) -> None:
        """Takes each order as far as it can go now, and ends it where it is fulfilled."""
        for expert in [*self._records.ordered.values()]:
            self._carry_out(expert)

    def _carry_out(self, expert: ExpertRecord) -> None:
        records = self._records
        if expert.removed and (expert.needed or self._stays_for_now(expert)):
            return
        if expert.device.presence == "present":
            self._evictions.send_away(expert, expert.order_reason)
            return
        if expert.device.presence != "absent" or expert.host.presence == "leaving":
            return
        if expert.ordered == "host" and expert.host.presence == "absent" and self._wants_copy(expert):
            self._copies.order(expert)
            return
        if expert.ordered == "disk" and expert.host.presence != "absent":
            if expert.host.presence == "present" and not in_use(expert):
                records.drop(expert, expert.order_reason)
            elif expert.host.presence == "arriving":
                records.abort_reading(expert)
            return
        if expert.host.presence == "arriving":
            return
        if not expert.removed:
            records.clear_order(expert)
        elif not expert.leases:
            records.forget(expert)
            records.actions.append(Forget(expert.name))

    def _stays_for_now(self, expert: ExpertRecord) -> bool:
        """Whether giving the removed expert back failed and is not to be tried again yet."""
        self._records.wake(expert.stays_until)
        if self._records.now < expert.stays_until:
            return True
        expert.stuck = False
        self._records.rank(expert)
        return False

    def _wants_copy(self, expert: ExpertRecord) -> bool:
        size = expert.weights_bytes
        return expert.order_reason == "operator" and 0 < size <= self._records.host.capacity
