"""Budgets that can never work are refused before anything starts, with the numbers."""

from collections.abc import Mapping, Sequence

from experts.spec import Expert
from memory_tiers.errors import BudgetTooSmall
from memory_tiers.tiers import TiersConfig


def check_budgets(
    config: TiersConfig, experts: Sequence[Expert], resident_limits: Mapping[str, int | None]
) -> None:
    """Raises BudgetTooSmall. ``resident_limits`` has ``Engine.resident_limit`` of each family."""
    on_disk = sum(expert.weights_bytes for expert in experts)
    if config.disk is not None and on_disk > config.disk:
        raise BudgetTooSmall(
            f"experts take {_size(on_disk)} on disk, over tiers.disk of {_size(config.disk)}"
        )
    for family, limit in resident_limits.items():
        _check_pins(family, limit, [expert for expert in experts if expert.family == family])
    for expert in experts:
        always = sum(_held(expert, family, limit, experts) for family, limit in resident_limits.items())
        if expert.weights_bytes + always > config.device:
            beside = f" beside {_size(always)} that never leave" if always else ""
            raise BudgetTooSmall(
                f"expert {expert.name} needs {_size(expert.weights_bytes)}{beside}, over tiers.device of "
                f"{_size(config.device)}: raise the budget, or unpin or remove experts"
            )


def _check_pins(family: str, limit: int | None, experts: Sequence[Expert]) -> None:
    pinned = sum(expert.pinned for expert in experts)
    if limit is not None and pinned and len(experts) > limit:
        raise BudgetTooSmall(
            f"family {family} holds {limit} expert at a time and {pinned} of its {len(experts)} is pinned: "
            "the others could never load; unpin it"
        )


def _held(expert: Expert, family: str, limit: int | None, experts: Sequence[Expert]) -> int:
    """Bytes that can never make room for ``expert``: pins, and the place an engine limited by count keeps.
    Such an engine gives memory back only by taking another expert of its own."""
    others = [other for other in experts if other.family == family and other is not expert]
    if limit is None:
        return sum(other.weights_bytes for other in others if other.pinned)
    kept = limit - 1 if family == expert.family else limit
    return sum(sorted((other.weights_bytes for other in others), reverse=True)[:kept])


def _size(count: int) -> str:
    return f"{count:,} bytes"
