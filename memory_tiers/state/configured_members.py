"""Answers which experts are configured now, and whether they could be served with others or other budgets."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from memory_tiers.errors import OrderRefused
from memory_tiers.feasibility import check_members
from memory_tiers.members import Family, Member
from memory_tiers.replicas import on_each_engine
from memory_tiers.state.records.expert_record import ExpertRecord
from memory_tiers.state.records.records import Records
from memory_tiers.tiers import TiersConfig


class ConfiguredMembers:
    """The experts that are configured, as changed while serving; removed ones are not among them."""

    def __init__(self, records: Records, config: TiersConfig) -> None:
        self._records = records
        self._config = config

    def __repr__(self) -> str:
        return f"<ConfiguredMembers {', '.join(self.all())}>"

    def record(self, name: str) -> ExpertRecord:
        """Finds the record of a configured expert. Raises OrderRefused."""
        expert = self._records.experts.get(name)
        if expert is None or expert.removed or expert.expert != name:
            raise OrderRefused(f"there is no expert {name}")
        return expert

    def member(self, name: str, *, pinned: bool) -> Member:
        """Describes an expert as it is now, apart from ``pinned``. Raises OrderRefused."""
        return replace(_member(self.record(name)), pinned=pinned)

    def all(self) -> dict[str, Member]:
        """Describes every configured expert, by its name."""
        firsts = [each for each in self._records.experts.values() if each is each.first and not each.removed]
        return {record.expert: _member(record) for record in firsts}

    def check(
        self,
        members: Mapping[str, Member],
        families: Sequence[Family] = (),
        device: int | None = None,
    ) -> None:
        """Checks that ``members`` could be served, in the running families and the new ``families``, with
        this budget of the device (None: the current one). Engines without experts give back what they hold.
        Raises BudgetTooSmall."""
        records = self._records
        served = {member.family for member in members.values()}
        capacity = records.device.capacity if device is None else device
        config = self._config.model_copy(update={"device": capacity})
        there = [family for family in (*records.families(), *families) if family.serves in served]
        check_members(config, on_each_engine(members.values(), there), there, self._device_bytes)

    def _device_bytes(self, member: Member) -> int:
        """Takes what was measured of the expert or its family where that is less than the weights: whatever
        would have been accepted at the start is accepted now."""
        known, engine = self._records.experts.get(member.name), self._records.engines.get(member.family)
        if known is not None:
            measured = known.device_bytes
        else:
            measured = round(member.weights_bytes * (engine.scale if engine else 1.0))
        return min(measured, member.weights_bytes)


def _member(record: ExpertRecord) -> Member:
    return Member(
        record.expert,
        record.engine.serves,
        record.weights_bytes,
        any(replica.pinned for replica in record.replicas),
        any(replica.default for replica in record.replicas),
        record.ttl_s,
    )
