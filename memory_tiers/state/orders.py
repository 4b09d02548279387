"""Takes operators' orders for one expert: where it shall be, whether it is pinned, and that a load ends."""

from memory_tiers.errors import OrderRefused
from memory_tiers.members import Member
from memory_tiers.replicas import on_each_engine
from memory_tiers.state.configured_members import ConfiguredMembers
from memory_tiers.state.decision.dispatch import Dispatch
from memory_tiers.state.records.demand import Demand
from memory_tiers.state.records.expert_record import ExpertRecord
from memory_tiers.state.records.records import Records
from memory_tiers.tiers import Tier


class Orders:
    """``may_...`` raises what the order would be refused with, and changes nothing."""

    def __init__(
        self, records: Records, demand: Demand, configured: ConfiguredMembers, dispatch: Dispatch
    ) -> None:
        self._records = records
        self._demand = demand
        self._configured = configured
        self._dispatch = dispatch

    def __repr__(self) -> str:
        return f"<Orders for {', '.join(self._records.ordered) or 'no expert'}>"

    def may_order(self, name: str, tier: Tier) -> None:
        """Checks that an expert can be sent to ``tier``. Raises OrderRefused."""
        expert = self._configured.record(name)
        if _pinned(expert) and tier != "device":
            raise OrderRefused(f"expert {name} is pinned to the device: unpin it first")
        too_large = expert.weights_bytes > self._records.host.capacity
        nowhere = all(replica.device.presence == "absent" for replica in expert.replicas)
        if tier == "host" and too_large and nowhere:
            raise OrderRefused(
                f"expert {name} has {expert.weights_bytes:,} bytes, over tiers.host of "
                f"{self._records.host.capacity:,}: raise the budget, or order it to disk"
            )

    def order(self, expert: ExpertRecord, tier: Tier) -> None:
        """Sends the expert to ``tier``, in place of an earlier order: off every engine, or onto one."""
        records = self._records
        for replica in expert.replicas:
            if replica.ordered == "device" and tier != "device":
                self._demand.unwant(replica)
            records.clear_order(replica)
            replica.stuck, replica.failure = False, ""
            records.rank(replica)
            if tier != "device":
                records.order(replica, tier, "operator")
        if tier == "device" and all(replica.device.presence != "present" for replica in expert.replicas):
            chosen = self._dispatch.choose(expert, "")
            chosen.ordered = "device"
            self._load(chosen)

    def may_cancel(self, name: str) -> None:
        """Checks that an expert's load can be cancelled. Raises OrderRefused."""
        expert = self._configured.record(name)
        if _pinned(expert):
            raise OrderRefused(f"expert {name} is pinned to the device: unpin it first")
        if not any(map(_coming, expert.replicas)):
            raise OrderRefused(f"expert {name} is not being loaded")

    def cancel(self, expert: ExpertRecord) -> None:
        """Rejects the tickets that wait for the expert. A read from disk ends, ordered or not; a load that an
        engine has begun ends too, and gives its memory back."""
        records = self._records
        for replica in filter(_coming, expert.replicas):
            if replica.ordered == "host":
                records.clear_order(replica)
            self._demand.reject(
                replica, "load_cancelled", f"the load of expert {expert.expert} was cancelled by an operator"
            )
            if replica.device.presence == "arriving":
                replica.cancelled = True
        records.abort_reading(expert)

    def may_change(self, member: Member) -> None:
        """Checks that an expert may be as ``member`` says. Raises BudgetTooSmall."""
        self._configured.check({**self._configured.all(), member.name: member})

    def change(self, member: Member) -> None:
        """Gives an expert the pin, ``default`` and ``ttl_s`` of ``member``; a pinned one is loaded."""
        for each in on_each_engine([member], self._records.families()):
            self._change(each)

    def _change(self, member: Member) -> None:
        records, expert = self._records, self._records.experts[member.name]
        expert.pinned, expert.default, expert.ttl_s = member.pinned, member.default, member.ttl_s
        if expert.pinned:
            records.clear_order(expert)
            self._load(expert)
        elif expert.ordered != "device":
            self._demand.unwant(expert)
        records.rank(expert)

    def _load(self, expert: ExpertRecord) -> None:
        """Wants the expert even if others must leave for it, and forgets why an earlier load failed."""
        expert.restored, expert.failure = False, ""
        self._demand.want(expert)


def _pinned(expert: ExpertRecord) -> bool:
    return any(replica.pinned for replica in expert.replicas)


def _coming(expert: ExpertRecord) -> bool:
    """Whether the expert is on its way to its engine, or shall be."""
    loading = "arriving" in (expert.device.presence, expert.host.presence)
    return expert.device.presence != "present" and (expert.needed or loading)
