"""The most experts of each family that a budget over all GPUs lets be resident."""

from collections.abc import Sequence

from memory_tiers.planning.node_plan import FamilyPlan


def most_on(families: Sequence[FamilyPlan], device: int) -> dict[str, int]:
    """Counts for each family the experts that it may hold while every other holds only its pinned ones:
    ``tiers.device`` is one sum, so any family may take what the others leave. No family holds more than all
    its experts, nor fewer than it must."""
    pinned = sum(family.demand.pinned * whole(family) for family in families)
    counts = {}
    for family in families:
        demand = family.demand
        left = max(0, device - pinned) // max(1, whole(family))
        counts[family.name] = min(demand.most_resident, max(demand.least_resident, demand.pinned + left))
    return counts


def whole(family: FamilyPlan) -> int:
    """Bytes of one expert on all its GPUs together."""
    return family.demand.charged * family.demand.ranks
