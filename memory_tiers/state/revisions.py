"""Takes revisions of the configuration while the tiers serve: experts, families and budgets."""

from memory_tiers.errors import OrderRefused
from memory_tiers.members import Member, Revision
from memory_tiers.replicas import on_each_engine
from memory_tiers.state.configured_members import ConfiguredMembers
from memory_tiers.state.orders import Orders
from memory_tiers.state.outcomes import Outcomes
from memory_tiers.state.records.demand import Demand
from memory_tiers.state.records.expert_record import ExpertRecord
from memory_tiers.state.records.records import Records


class Revisions:
    """``may_revise`` raises what a revision would be refused with, and changes nothing."""

    def __init__(
        self,
        records: Records,
        demand: Demand,
        configured: ConfiguredMembers,
        orders: Orders,
        outcomes: Outcomes,
    ) -> None:
        self._records = records
        self._demand = demand
        self._configured = configured
        self._orders = orders
        self._outcomes = outcomes

    def __repr__(self) -> str:
        return f"<Revisions of {self._configured!r}>"

    def may_revise(self, revision: Revision) -> None:
        """Checks that the whole revision can be carried out. Raises OrderRefused, BudgetTooSmall."""
        records = self._records
        if records.closing:
            raise OrderRefused("the server is shutting down: change what it serves when it runs again")
        if revision.device is not None and records.by_gpu:
            raise OrderRefused("tiers.device: GPUs have budgets of their own: restart with others")
        for name in revision.removed:
            self._configured.record(name)
        for member in revision.changed:
            self._may_change(member)
        for family in revision.families:
            if family.name in records.engines:
                raise OrderRefused(
                    f"the engine of family {family.name} is still there: try again when it has stopped"
                )
        for member in revision.added:
            self._may_add(member)
        members = self._configured.all()
        end = {name: member for name, member in members.items() if name not in revision.removed}
        end |= {member.name: member for member in (*revision.changed, *revision.added)}
        self._configured.check(end, revision.families, revision.device)

    def revise(self, revision: Revision) -> None:
        """Carries the revision out; experts move as later decisions can move them."""
        records = self._records
        for name in revision.removed:
            for replica in [*records.experts[name].replicas]:
                self._remove(replica)
        if revision.device is not None:
            records.device.resize(revision.device)
        if revision.host is not None:
            records.host.resize(revision.host)
            records.host_budget = None
        for family in revision.families:
            records.add_engine(family, holds=False)
        for expert in [records.add(each) for each in on_each_engine(revision.added, records.families())]:
            if expert.pinned or expert.default:
                self._demand.want(expert)
        for family in revision.families:
            self._outcomes.want_engine(records.engines[family.name])
        for member in revision.changed:
            self._orders.change(member)

    def _may_change(self, member: Member) -> None:
        expert = self._configured.record(member.name)
        if (member.family, member.weights_bytes) != (expert.engine.serves, expert.weights_bytes):
            raise OrderRefused(
                f"expert {member.name} has other weights, or another family: give it a new name, or remove "
                "it first and add it when it has left"
            )

    def _may_add(self, member: Member) -> None:
        known = next((each for each in self._records.experts.values() if each.expert == member.name), None)
        if known is not None:
            there = "is still leaving: try again when it has left" if known.removed else "is there already"
            raise OrderRefused(f"expert {member.name} {there}")

    def _remove(self, expert: ExpertRecord) -> None:
        records = self._records
        expert.pinned = expert.default = False
        self._demand.unwant(expert)
        records.rank(expert)
        records.order(expert, "disk", "removed")
        expert.removed = True
