"""Refuses budgets that can never work before anything starts, with the numbers."""

from collections.abc import Callable, Sequence

from memory_tiers.errors import BudgetTooSmall
from memory_tiers.members import Family, Member
from memory_tiers.tiers import TiersConfig


def checkpoint_bytes(member: Member) -> int:
    """Estimates the device bytes of an expert before any were measured: those of its checkpoint."""
    return member.weights_bytes


def check_members(
    config: TiersConfig,
    members: Sequence[Member],
    families: Sequence[Family],
    on_device: Callable[[Member], int] = checkpoint_bytes,
) -> None:
    """Checks that every expert can be where it may have to be. ``on_device`` gives the bytes that a member
    takes there. Raises BudgetTooSmall."""
    on_disk = sum(member.weights_bytes for member in members)
    if config.disk is not None and on_disk > config.disk:
        raise BudgetTooSmall(
            f"experts take {_size(on_disk)} on disk, over tiers.disk of {_size(config.disk)}"
        )
    for family in families:
        _check_pins(family, [member for member in members if member.family == family.name])
    _check_defaults(config, members, on_device)
    held = sum(family.held for family in families)
    pinned = sum(on_device(member) for member in members if member.pinned)
    for member in members:
        size = on_device(member)
        always = held + pinned - (size if member.pinned else 0)
        if size + always > config.device:
            beside = f" beside {_size(always)} that never leave" if always else ""
            raise BudgetTooSmall(
                f"expert {member.name} needs {_size(size)}{beside}, over tiers.device of "
                f"{_size(config.device)}: raise the budget, or unpin or remove experts"
            )


def _check_pins(family: Family, members: Sequence[Member]) -> None:
    limit, pinned = family.resident_limit, sum(member.pinned for member in members)
    if limit is not None and pinned >= limit and len(members) > limit:
        raise BudgetTooSmall(
            f"family {family.name} holds {limit} at a time of its {len(members)} experts, and {pinned} "
            "pinned: the others could never load; unpin one"
        )


def _check_defaults(
    config: TiersConfig, members: Sequence[Member], on_device: Callable[[Member], int]
) -> None:
    staying = sum(on_device(member) for member in members if member.pinned or member.default)
    if any(member.default for member in members) and staying > config.device:
        raise BudgetTooSmall(
            f"the pinned and default experts take {_size(staying)} together, over tiers.device of "
            f"{_size(config.device)}: raise the budget, or make fewer of them default"
        )


def _size(count: int) -> str:
    return f"{count:,} bytes"
