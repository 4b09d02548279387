"""Answers questions about the state of the tiers as it is now."""

from collections.abc import Mapping

from memory_tiers.state.records.demand import Demand
from memory_tiers.state.records.expert_record import ExpertRecord
from memory_tiers.state.records.records import Records
from memory_tiers.status import EngineStatus, ExpertStatus, GpuStatus, OpenCounts, PrefetchCounts, TierStatus
from memory_tiers.tiers import Presence, Tier, TiersConfig


class StatusView:
    """Reads the records and changes nothing."""

    def __init__(self, records: Records, demand: Demand, config: TiersConfig) -> None:
        self._records = records
        self._demand = demand
        self._config = config

    def __repr__(self) -> str:
        return f"<StatusView {self.counts}>"

    def tier(self, expert: str) -> Tier:
        """Names the highest tier that holds ``expert``; disk for an unknown one."""
        record = self._records.experts.get(expert)
        return "disk" if record is None else _tier(record)

    @property
    def known(self) -> int:
        """How many experts there are, with removed ones that have not left yet."""
        return len(self._records.experts)

    def knows(self, expert: str) -> bool:
        """Whether ``expert`` is configured, or was removed and has not left yet."""
        return expert in self._records.experts

    def others_wait(self, expert: str) -> bool:
        """Whether a ticket waits for another expert than ``expert``."""
        record = self._records.experts.get(expert)
        own = 0 if record is None else sum(len(replica.waiting) for replica in record.replicas)
        return self._records.waiting > own

    @property
    def counts(self) -> OpenCounts:
        """How many tickets wait, leases are held and moves are under way."""
        records = self._records
        moving = sum(engine.occupied for engine in records.engines.values())
        dropping = sum(expert.host.presence == "leaving" for expert in self._firsts())
        moves = moving + dropping + (records.staging is not None)
        return OpenCounts(records.waiting, len(records.tickets) - records.waiting, moves)

    @property
    def settled(self) -> bool:
        """Whether everything that the tiers want themselves, a pin or an engine, is there or was given up."""
        return not any(expert.wanted for expert in self._demand.needed())

    @property
    def prefetches(self) -> PrefetchCounts:
        """How many prefetched copies were used or wasted, by tier."""
        return dict(self._records.prefetches)

    @property
    def expiries(self) -> Mapping[str, float]:
        """When the idle experts that have a ``ttl_s`` will have stayed for it."""
        return self._records.rankings.expiries.times

    def experts(self) -> tuple[ExpertStatus, ...]:
        """Describes each configured expert, over all engines of its family."""
        return tuple(
            ExpertStatus(
                expert=expert.expert,
                family=expert.engine.serves,
                tier=_tier(expert),
                device=_presence(expert),
                host=expert.host.presence,
                pinned=any(replica.pinned for replica in expert.replicas),
                leases=sum(len(replica.leases) for replica in expert.replicas),
                waiting=sum(len(replica.waiting) for replica in expert.replicas),
                weights_bytes=expert.weights_bytes,
                device_bytes=sum(replica.device.charged for replica in expert.replicas),
                host_bytes=expert.host.charged,
                image=expert.host.image,
                default=any(replica.default for replica in expert.replicas),
                ttl_s=expert.ttl_s if expert.ttl_s is not None else self._config.ttl_s,
                ordered=next((each.ordered for each in expert.replicas if each.ordered), None),
                failure=next((each.failure for each in expert.replicas if each.failure), ""),
                engines=tuple(
                    each.engine.family for each in expert.replicas if each.device.presence == "present"
                ),
            )
            for expert in self._firsts()
            if not expert.removed
        )

    def tiers(self) -> tuple[TierStatus, ...]:
        """Describes device, host and disk."""
        device, host = self._records.device, self._records.host
        on_disk = sum(expert.weights_bytes for expert in self._firsts())
        return (
            TierStatus("device", device.used, device.arriving, device.capacity),
            TierStatus("host", host.used, host.arriving, host.capacity),
            TierStatus("disk", on_disk, 0, self._config.disk),
        )

    def gpus(self) -> tuple[GpuStatus, ...]:
        """Describes each GPU that has a budget of its own."""
        parts = self._records.device.parts.items() if self._records.by_gpu else ()
        return tuple(GpuStatus(number, part.used, part.capacity) for number, part in parts)

    def engines(self) -> tuple[EngineStatus, ...]:
        """Describes each engine."""
        return tuple(
            EngineStatus(
                family=engine.family,
                state="asleep" if engine.asleep else engine.state,
                starts=engine.starts,
                detail=engine.detail,
                rests=engine.asleep
                or ((engine.state == "stopped" or engine.stopping) and not any(engine.queued)),
                bound_hits=engine.bound_hits,
            )
            for engine in self._records.engines.values()
        )

    def _firsts(self) -> list[ExpertRecord]:
        return [expert for expert in self._records.experts.values() if expert is expert.first]


def _tier(expert: ExpertRecord) -> Tier:
    """The highest tier that holds the expert, whatever engine has it."""
    there = any(replica.device.presence == "present" for replica in expert.replicas)
    return "device" if there else expert.tier


def _presence(expert: ExpertRecord) -> Presence:
    """How much of the expert is on the device: the most that an engine has."""
    found = {replica.device.presence for replica in expert.replicas}
    order: tuple[Presence, ...] = ("present", "arriving", "leaving", "absent")
    return next(presence for presence in order if presence in found)
