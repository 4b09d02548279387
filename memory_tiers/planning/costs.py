"""Estimates what switches and loads cost, from a machine profile's bandwidths. Planned, not measured."""

from dataclasses import dataclass

from memory_tiers.planning.node_plan import FamilyPlan
from memory_tiers.simulator.profiles import BUILT_IN, Profile

BY_MEMORY = ((100 * 10**9, "h200"), (70 * 10**9, "dgx-a100"), (40 * 10**9, "l40s"), (0, "rtx-4090"))
"""The profile of a GPU with at least so much memory: of those with 80 GB the slower."""


FLIP_S = 20e-6
"""Seconds in which pointers to an 8B model's weights are set; on a CPU, of whatever device they are."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds. ``switch``: between two resident experts; None where there are never two."""

    switch: float | None
    load_from_host: float
    load_from_disk: float


def profile_for(gpu_bytes: int, card: str = "") -> Profile:
    """Chooses a profile by the memory of a GPU, and by its name where that is known: ``NVIDIA H100 80GB
    HBM3``."""
    for name, profile in BUILT_IN.items():
        named = name.replace("-", " ") in card.lower()
        if named and abs(profile.device - gpu_bytes) < gpu_bytes / 8:
            return profile
    return BUILT_IN[next(name for least, name in BY_MEMORY if gpu_bytes >= least)]


def costs_of(family: FamilyPlan, profile: Profile) -> Costs:
    """A switch reads and writes an expert once in each GPU's own memory (images are copied to captured
    addresses; without graphs pointers are set); a load from the host goes over one link a GPU, all at once;
    from the disk it is read to the host first."""
    demand = family.demand
    size = demand.adapters if demand.mode == "lora" else demand.shard
    memory = profile.memory_bytes_per_s / profile.links
    host = size / profile.link_bytes_per_s
    several = demand.mode == "interleaved" and family.resident > 1
    return Costs(
        switch=None if not several else 2 * size / memory if demand.working_copy else FLIP_S,
        load_from_host=host,
        load_from_disk=host + size * demand.ranks / profile.disk_bytes_per_s,
    )
