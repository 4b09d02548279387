"""What operators ask for while all goes on: where an expert shall be, who is configured, how much fits."""

from collections.abc import Mapping
from dataclasses import replace

from memory_tiers.errors import OrderRefused
from memory_tiers.events import Family, Member, Revision
from memory_tiers.feasibility import check_members
from memory_tiers.state.expert_record import ExpertRecord
from memory_tiers.state.outcomes import Outcomes
from memory_tiers.state.records import Records
from memory_tiers.tiers import Tier, TiersConfig


class Changes:
    """``may_...`` says beforehand what would be refused, and changes nothing."""

    def __init__(self, records: Records, config: TiersConfig, outcomes: Outcomes) -> None:
        self._records = records
        self._config = config
        self._outcomes = outcomes

    def __repr__(self) -> str:
        return f"<Changes to {len(self._records.experts)} experts>"

    def may_order(self, name: str, tier: Tier) -> None:
        """Raises OrderRefused."""
        expert = self._record(name)
        if expert.pinned and tier != "device":
            raise OrderRefused(f"expert {name} is pinned to the device: unpin it first")
        too_large = expert.weights_bytes > self._records.host.capacity
        if tier == "host" and too_large and expert.device.presence == "absent":
            raise OrderRefused(
                f"expert {name} has {expert.weights_bytes:,} bytes, over tiers.host of "
                f"{self._records.host.capacity:,}: raise the budget, or order it to disk"
            )

    def may_cancel(self, name: str) -> None:
        """Raises OrderRefused."""
        expert = self._record(name)
        if expert.pinned:
            raise OrderRefused(f"expert {name} is pinned to the device: unpin it first")
        loading = "arriving" in (expert.device.presence, expert.host.presence)
        if expert.device.presence == "present" or not (expert.needed or loading):
            raise OrderRefused(f"expert {name} is not being loaded")

    def may_have(self, member: Member) -> None:
        """Whether an expert may be as ``member`` says. Raises BudgetTooSmall."""
        self._check_end({**self._members(), member.name: member}, Revision())

    def may_revise(self, revision: Revision) -> None:
        """Whether all of it can be had together. Raises OrderRefused, BudgetTooSmall."""
        records = self._records
        if records.closing:
            raise OrderRefused("the server is shutting down: change what it serves when it runs again")
        for name in revision.removed:
            self._record(name)
        for member in revision.changed:
            self._may_change(member)
        for family in revision.families:
            if family.name in records.engines:
                raise OrderRefused(
                    f"the engine of family {family.name} is still there: try again when it has stopped"
                )
        for member in revision.added:
            self._may_add(member)
        end = {name: member for name, member in self._members().items() if name not in revision.removed}
        end |= {member.name: member for member in (*revision.changed, *revision.added)}
        self._check_end(end, revision)

    def _may_change(self, member: Member) -> None:
        expert = self._record(member.name)
        if (member.family, member.weights_bytes) != (expert.engine.family, expert.weights_bytes):
            raise OrderRefused(
                f"expert {member.name} has other weights, or another family: give it a new name, or remove "
                "it first and add it when it has left"
            )

    def _may_add(self, member: Member) -> None:
        known = self._records.experts.get(member.name)
        if known is not None:
            there = "is still leaving: try again when it has left" if known.removed else "is there already"
            raise OrderRefused(f"expert {member.name} {there}")

    def _members(self) -> dict[str, Member]:
        return {
            record.name: _member(record) for record in self._records.experts.values() if not record.removed
        }

    def _check_end(self, members: Mapping[str, Member], revision: Revision) -> None:
        """Where ``revision`` leads to; engines without experts give back what they hold. Raises
        BudgetTooSmall."""
        records = self._records
        served = {member.family for member in members.values()}
        running = [
            Family(record.family, record.resident_limit, record.held) for record in records.engines.values()
        ]
        families = [family for family in (*running, *revision.families) if family.name in served]
        device, host = revision.device, revision.host
        config = self._config.model_copy(
            update={
                "device": records.device.capacity if device is None else device,
                "host": records.host.capacity if host is None else host,
            }
        )
        check_members(config, list(members.values()), families, self._on_device)

    def _on_device(self, member: Member) -> int:
        """Bytes, as measured of it or of its family where that is less than its weights: what would have been
        let pass at the start is."""
        known, engine = self._records.experts.get(member.name), self._records.engines.get(member.family)
        if known is not None:
            measured = known.device_bytes
        else:
            measured = round(member.weights_bytes * (engine.scale if engine else 1.0))
        return min(measured, member.weights_bytes)

    def member(self, name: str, *, pinned: bool | None = None) -> Member:
        """As it is now, apart from ``pinned`` if given. Raises OrderRefused."""
        record = self._record(name)
        return _member(record) if pinned is None else replace(_member(record), pinned=pinned)

    def _record(self, name: str) -> ExpertRecord:
        expert = self._records.experts.get(name)
        if expert is None or expert.removed:
            raise OrderRefused(f"there is no expert {name}")
        return expert

    def order(self, expert: ExpertRecord, tier: Tier) -> None:
        records = self._records
        records.clear_order(expert)
        expert.stuck, expert.failure = False, ""
        records.rank(expert)
        if tier != "device":
            records.order(expert, tier, "operator")
        elif expert.device.presence != "present":
            expert.ordered = "device"
            self._load(expert)

    def cancel(self, expert: ExpertRecord) -> None:
        """A read from disk ends, ordered or not; a load that an engine has running ends too, and gives its
        memory back."""
        records = self._records
        if expert.ordered == "host":
            records.clear_order(expert)
        records.reject(
            expert, "load_cancelled", f"the load of expert {expert.name} was cancelled by an operator"
        )
        if expert.device.presence == "arriving":
            expert.cancelled = True
        records.abort_reading(expert)

    def change(self, member: Member) -> None:
        records, expert = self._records, self._records.experts[member.name]
        expert.pinned, expert.default, expert.ttl_s = member.pinned, member.default, member.ttl_s
        if expert.pinned:
            records.clear_order(expert)
            self._load(expert)
        elif not expert.waiting:
            records.unwant(expert)
        records.rank(expert)

    def _load(self, expert: ExpertRecord) -> None:
        """For whoever wants it there now, not only if there is room; what failed before says nothing now."""
        expert.restored, expert.failure = False, ""
        self._records.want(expert)

    def revise(self, revision: Revision) -> None:
        records = self._records
        for name in revision.removed:
            self._remove(records.experts[name])
        if revision.device is not None:
            records.device.resize(revision.device)
        if revision.host is not None:
            records.host.resize(revision.host)
        for family in revision.families:
            records.add_engine(family, holds=False)
        for expert in [records.add(member) for member in revision.added]:
            if expert.pinned or expert.default:
                records.want(expert)
        for family in revision.families:
            self._outcomes.want_engine(records.engines[family.name])
        for member in revision.changed:
            self.change(member)

    def _remove(self, expert: ExpertRecord) -> None:
        records = self._records
        expert.removed = True
        expert.pinned = expert.default = False
        if not expert.waiting:
            records.unwant(expert)
        records.rank(expert)
        records.order(expert, "disk", "removed")


def _member(record: ExpertRecord) -> Member:
    return Member(
        record.name,
        record.engine.family,
        record.weights_bytes,
        record.pinned,
        record.default,
        record.ttl_s,
    )
