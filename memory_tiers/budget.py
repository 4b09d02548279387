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
    staying = {family: _staying(family, limit, experts) for family, limit in resident_limits.items()}
    for expert in experts:
        always = held + sum(
            _held(expert, family, limit, staying[family]) for family, limit in resident_limits.items()
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


def _staying(family: str, limit: int | None, experts: Sequence[Expert]) -> list[Expert]:
    """Who holds bytes that never make room for others: pins, and in an engine of one the largest, since it
    gives memory back only by taking another expert of its own."""
    members = [expert for expert in experts if expert.family == family]
    if limit != 1:
        return [expert for expert in members if expert.pinned]
    return sorted(members, key=lambda expert: expert.weights_bytes)[-1:]


def _held(expert: Expert, family: str, limit: int | None, staying: Sequence[Expert]) -> int:
    """Bytes that can never make room for ``expert``."""
    if limit == 1 and family == expert.family:
        return 0
    return sum(other.weights_bytes for other in staying if other is not expert)


def _size(count: int) -> str:
    return f"{count:,} bytes"
