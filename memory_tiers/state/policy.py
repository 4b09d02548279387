"""Which expert leaves first. The manager and the simulator ask the same policy."""

import math
from typing import Protocol

from memory_tiers.tiers import PolicyName, Tier

HALF_LIFE = 3.0
"""A use counts half in a tier after all that is in it has come anew so often. By what comes, not by the
clock: it fits fast and slow machines and small and large tiers, nothing is forgotten while nobody has to
leave, and when other experts are asked for than before, what this brings makes the old ones leave soon."""
NEVER_USED = -math.inf


def recency_weighted_use(before: float, turnovers: float, chance: float = 1.0) -> float:
    """``before`` after one more use: log2 of the sum of 2 ** (turnovers / HALF_LIFE) over all uses. Experts
    are in the order of how much they were used lately, and stay in it while none is used: all cool alike.
    ``chance``, over 0: that there will be this use; it counts as so much of one."""
    latest = turnovers / HALF_LIFE + math.log2(chance)
    return max(before, latest) + math.log2(1 + 2 ** -abs(before - latest))


class Candidate(Protocol):
    """What a policy may know of an expert that could leave a tier."""

    @property
    def name(self) -> str: ...

    @property
    def last_used(self) -> float:
        """Seconds on the driver's clock: the last grant, release or load."""
        ...

    @property
    def device_use(self) -> float:
        """How much it was used of late, by the turnovers of the device. See ``recency_weighted_use``."""
        ...

    @property
    def host_use(self) -> float:
        """The same by the turnovers of the host."""
        ...

    @property
    def seconds_per_byte(self) -> float:
        """What bringing a byte of it to the device takes."""
        ...


class Policy(Protocol):
    """Orders victims of a tier. Whether an expert may be a victim at all is not its business."""

    def rank(self, candidate: Candidate, tier: Tier) -> float:
        """Who has the lowest rank leaves first. Must not change while nothing happens to the candidate."""
        ...


class LeastRecentlyUsed:
    def rank(self, candidate: Candidate, tier: Tier) -> float:
        return candidate.last_used


class RateTimesCost:
    """How often it was used of late, times the seconds that bringing it back takes, for each byte freed. To
    the host every byte comes from the same disk."""

    def rank(self, candidate: Candidate, tier: Tier) -> float:
        if tier == "device":
            return candidate.device_use + math.log2(candidate.seconds_per_byte)
        return candidate.host_use


def policy_of(name: PolicyName) -> Policy:
    return LeastRecentlyUsed() if name == "lru" else RateTimesCost()
