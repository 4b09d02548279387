"""Budgets that can never work are refused before anything starts, with the numbers."""

from collections.abc import Mapping, Sequence

from experts.spec import Expert
from memory_tiers.errors import BudgetTooSmall
from memory_tiers.tiers import TiersConfig


def check_budgets(
    config: TiersConfig,
    experts: Sequence[Expert],
    resident_limits: Mapping[str, int | None],
    held: int = 0,
) -> None:
    """Raises BudgetTooSmall. ``resident_limits`` has ``Engine.resident_limit`` of each family, ``held`` is
    the sum of ``Engine.held_bytes``."""
    on_disk = sum(expert.weights_bytes for expert in experts)
    if config.disk is not None and on_disk > config.disk:
        raise BudgetTooSmall(
            f"experts take {_size(on_disk)} on disk, over tiers.disk of {_size(config.disk)}"
        )
    for family, limit in resident_limits.items():
        _check_pins(family, limit, [expert for expert in experts if expert.family == family])
    for expert in experts:
        always = held + sum(
            _held(expert, family, limit, experts) for family, limit in resident_limits.items()
        )
        if expert.weights_bytes + always > config.device:
            beside = f" beside {_size(always)} that never leave" if always else ""
            raise BudgetTooSmall(
                f"expert {expert.name} needs {_size(expert.weights_bytes)}{beside}, over tiers.device of "
                f"{_size(config.device)}: raise the budget, or unpin or remove experts"
            )


def _check_pins(family: str, limit: int | None, experts: Sequence[Expert]) -> None:
    pinned = sum(expert.pinned for expert in experts)
    if limit is not None and pinned >= limit and len(experts) > limit:
        raise BudgetTooSmall(
            f"family {family} holds {limit} at a time of its {len(experts)} experts, and {pinned} pinned: "
            "the others could never load; unpin one"
        )


def _held(expert: Expert, family: str, limit: int | None, experts: Sequence[Expert]) -> int:
    """Bytes that can never make room for ``expert``: pins, and the place that an engine of one keeps. Such
    an engine gives memory back only by taking another expert of its own."""
    others = [other for other in experts if other.family == family and other is not expert]
    if limit != 1:
        return sum(other.weights_bytes for other in others if other.pinned)
    return 0 if family == expert.family else max((other.weights_bytes for other in others), default=0)


def _size(count: int) -> str:
    return f"{count:,} bytes"
