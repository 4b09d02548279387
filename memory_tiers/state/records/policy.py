"""Ranks which expert leaves a tier first. The manager and the simulator ask the same policy."""

import math
from typing import Protocol

from memory_tiers.tiers import PolicyName, Tier


class Candidate(Protocol):
    """An expert that could leave a tier, as far as a policy may know it."""

    @property
    def name(self) -> str: ...

    @property
    def last_used(self) -> float:
        """Seconds on the driver's clock: the last grant, release or load."""
        ...

    @property
    def device_use(self) -> float:
        """Recency-weighted use by the turnovers of the device: see ``recency_weighted_use``."""
        ...

    @property
    def host_use(self) -> float:
        """Recency-weighted use by the turnovers of the host."""
        ...

    @property
    def seconds_per_byte(self) -> float:
        """Measured seconds that a byte of it takes to the device."""
        ...


class Policy(Protocol):
    """Orders the victims of a tier. Whether an expert may be a victim at all is decided elsewhere."""

    def rank(self, candidate: Candidate, tier: Tier) -> float:
        """Ranks the candidate: the lowest rank leaves first. Must not change while nothing happens to it."""
        ...


class LeastRecentlyUsed:
    """Evicts the expert that was used least recently."""

    def rank(self, candidate: Candidate, tier: Tier) -> float:
        return candidate.last_used


class RateTimesCost:
    """Evicts the expert with the lowest recent use times measured reload seconds per byte. To the host every
    byte comes from the same disk, so there use alone counts."""

    def rank(self, candidate: Candidate, tier: Tier) -> float:
        if tier == "device":
            return candidate.device_use + math.log2(candidate.seconds_per_byte)
        return candidate.host_use


def policy_of(name: PolicyName) -> Policy:
    """Makes the policy that the configuration names."""
    return LeastRecentlyUsed() if name == "lru" else RateTimesCost()
