"""Brings up experts that the router finds probable before a request waits for them."""

from collections.abc import Iterable

from memory_tiers.state.decision.evictions import Evictions
from memory_tiers.state.decision.host_copies import HostCopies
from memory_tiers.state.decision.loads import Loads
from memory_tiers.state.records.expert_record import ExpertRecord
from memory_tiers.state.records.records import Records
from memory_tiers.tiers import Tier, TiersConfig

KEPT = 32
"""How many experts' chances are remembered, the likeliest."""
DECAY = 0.9
"""The factor by which a chance shrinks each time something newer is foreseen."""
LIKELY = 0.1
"""The sum of an expert's decayed chances from which on it is worth a move."""
MARGIN = 1.0
"""Log2 of how much more than a victim the expert must have been used and foreseen."""


class Prefetch:
    """Prefetches while no ticket waits: one load and one read from disk at a time, within ``prefetch_share``
    of the time and of each tier's memory. A victim is idle, past its minimum residency, and was used less
    than half as much; engines of a single resident, which hold no other beside, are left alone.

    Chances also count as use for the policy: see ``Records.count_use``.
    """

    def __init__(
        self,
        records: Records,
        evictions: Evictions,
        copies: HostCopies,
        loads: Loads,
        config: TiersConfig,
    ) -> None:
        self._records = records
        self._evictions = evictions
        self._copies = copies
        self._loads = loads
        self._share = config.prefetch_share
        self._chances: dict[str, float] = {}  # the likeliest first
        self._not_before: dict[Tier, float] = {}

    def __repr__(self) -> str:
        return f"<Prefetch of {', '.join(self._chances) or 'no expert'}>"

    def foresee(self, chances: Iterable[tuple[str, float]]) -> None:
        """Takes in the router's probabilities. Names that are not configured are ignored."""
        records = self._records
        for name in self._chances:
            self._chances[name] *= DECAY
        for name, chance in chances:
            expert = records.experts.get(name)
            if expert is None or chance <= 0:
                continue
            records.count_use(expert, chance)
            records.rank(expert)
            self._chances[name] = self._chances.get(name, 0.0) + chance
        self._chances = dict(sorted(self._chances.items(), key=lambda each: -each[1])[:KEPT])
        if self._share > 0:
            records.decision_due = True

    def ended(self, tier: Tier, seconds: float) -> None:
        """Notes that a prefetch to ``tier`` took so long: the next one waits until that is ``prefetch_share``
        of the time."""
        self._not_before[tier] = self._records.now + seconds * (1 / self._share - 1)

    def prefetch(self) -> None:
        """Begins what may be prefetched now, the likeliest expert first."""
        if self._share == 0 or self._records.waiting:
            return
        free: set[Tier] = {tier for tier in ("device", "host") if self._free(tier)}
        for name, chance in self._chances.items():
            if not free or chance < LIKELY:
                return
            known = self._records.experts.get(name)
            expert = min(known.replicas, key=_until_free) if known is not None else None
            if expert is not None and self._may_be_brought(expert):
                tier = self._next_tier(expert)
                if tier in free and self._bring(expert, tier):
                    free.remove(tier)

    def _free(self, tier: Tier) -> bool:
        """Whether the way to ``tier`` is free for a prefetch now."""
        not_before = self._not_before.get(tier, 0.0)
        if self._records.now < not_before:
            self._records.wake(not_before)
            return False
        return tier == "device" or not self._copies.promised

    def _may_be_brought(self, expert: ExpertRecord) -> bool:
        """Whether no copy is on its way already and nothing forbids one."""
        engine = expert.engine
        return (
            all(each.device.presence == "absent" and not each.needed for each in expert.replicas)
            and expert.host.presence in ("absent", "present")
            and expert.ordered is None
            and engine.state == "ready"
            and not engine.asleep
            and not engine.occupied
            and not engine.full
        )

    def _next_tier(self, expert: ExpertRecord) -> Tier:
        fits_host = 0 < expert.weights_bytes <= self._records.host.capacity
        return "host" if expert.host.presence == "absent" and fits_host else "device"

    def _bring(self, expert: ExpertRecord, tier: Tier) -> bool:
        records = self._records
        rank = records.rankings.policy.rank
        wanted = max(rank(replica, tier) for replica in expert.replicas)

        def worth_it(victim: ExpertRecord) -> bool:
            return rank(victim, tier) + MARGIN < wanted

        if not self._fits_share(expert, tier):
            return False
        if tier == "host":
            return self._copies.prefetch(expert, worth_it)
        size = expert.device_bytes
        victims = self._evictions.make_room_of_idle(expert, size, worth_it)
        if victims is None:
            return False
        self._evictions.evict(victims, expert.name, "eviction")
        if records.device.fits(size, expert.device.parts) and not expert.engine.occupied:
            self._loads.begin(expert, "prefetch")
        return True

    def _fits_share(self, expert: ExpertRecord, tier: Tier) -> bool:
        ledger = self._records.device if tier == "device" else self._records.host
        size = expert.device_bytes if tier == "device" else expert.weights_bytes
        unused = sum(
            (other.device if tier == "device" else other.host).charged
            for (_, where), other in self._records.prefetched.items()
            if where == tier
        )
        return unused + size <= self._share * ledger.capacity


def _until_free(replica: ExpertRecord) -> tuple[bool, bool, int]:
    engine = replica.engine
    return engine.state != "ready", engine.occupied or engine.full, len(engine.residents)
