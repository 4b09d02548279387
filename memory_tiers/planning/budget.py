"""Budgets for experts on a node's GPUs, as they are configured."""

from collections.abc import Mapping, Sequence

from memory_tiers.planning.node_plan import FamilyPlan
from memory_tiers.tiers import TiersSettings

Budget = int | Mapping[int, int] | None
"""Bytes: over all GPUs (``tiers.device``), or on each by its number (``tiers.devices``); None: auto, which a
plan gives to each GPU."""


def budget_of(settings: TiersSettings) -> Budget:
    """Reads what is configured."""
    if settings.devices:
        return {number: int(size) for number, size in settings.devices.items()}
    return None if settings.device == "auto" else int(settings.device)


def charged_on(families: Sequence[FamilyPlan], number: int) -> int:
    """Bytes that the planned experts are charged on a GPU."""
    return sum(family.charged(family.resident) for family in families if number in family.devices)


def spare_on(families: Sequence[FamilyPlan], budget: Mapping[int, int]) -> dict[int, int]:
    """Bytes of each GPU's budget that the planned experts leave and other experts may fill."""
    found = {}
    for number, size in budget.items():
        here = [family for family in families if number in family.devices]
        most = sum(family.charged(family.demand.most_resident) for family in here)
        found[number] = max(0, min(size, most) - charged_on(here, number))
    return found


def short_of(families: Sequence[FamilyPlan], budget: Mapping[int, int]) -> list[str]:
    """Says what to change where a GPU has no budget, or one that is too small for what must be there."""
    said = [
        f"{family.name}: GPU {number} has no budget in tiers.devices: add one, or devices {sorted(budget)}"
        for family in families
        for number in family.devices
        if number not in budget
    ]
    for number, size in budget.items():
        here = [family for family in families if number in family.devices]
        least = sum(family.charged(family.demand.least_resident) for family in here)
        if size < least:
            said.append(f"tiers.devices.{number} {size / 1e9:.1f} GB -> {-(-least // 10**8) / 10:.1f} GB")
    return said
