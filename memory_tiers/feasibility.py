"""Refuses budgets that can never work before anything starts, with the numbers."""

from collections.abc import Callable, Mapping, Sequence

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
    on_disk = sum({member.known_as: member.weights_bytes for member in members}.values())
    if config.disk is not None and on_disk > config.disk:
        raise BudgetTooSmall(
            f"experts take {_size(on_disk)} on disk, over tiers.disk of {_size(config.disk)}"
        )
    for family in families:
        _check_pins(family, [member for member in members if member.family == family.name])
    _check_devices(config, families)
    for number, capacity in config.device_parts.items():
        there = {family.name: family for family in families if not config.devices or number in family.devices}
        ours = [member for member in members if member.family in there]
        ranks = {name: max(1, len(family.devices)) if config.devices else 1 for name, family in there.items()}
        held = sum(-(-family.held // ranks[name]) for name, family in there.items())
        shares = {member.name: -(-on_device(member) // ranks[member.family]) for member in ours}
        setting = f"tiers.devices.{number}" if config.devices else "tiers.device"
        _check_part(setting, capacity, ours, held, shares)


def _check_part(
    setting: str, capacity: int, members: Sequence[Member], held: int, shares: Mapping[str, int]
) -> None:
    """Checks one budget of the device, of which ``setting`` is the name. ``shares``: bytes that each expert
    takes of it."""
    staying = sum(shares[member.name] for member in members if member.pinned or member.default)
    if any(member.default for member in members) and staying > capacity:
        raise BudgetTooSmall(
            f"the pinned and default experts take {_size(staying)} together, over {setting} of "
            f"{_size(capacity)}: raise the budget, or make fewer of them default"
        )
    pinned = sum(shares[member.name] for member in members if member.pinned)
    for member in members:
        size = shares[member.name]
        always = held + pinned - (size if member.pinned else 0)
        if size + always > capacity:
            beside = f" beside {_size(always)} that never leave" if always else ""
            raise BudgetTooSmall(
                f"expert {member.name} needs {_size(size)}{beside}, over {setting} of "
                f"{_size(capacity)}: raise the budget, or unpin or remove experts"
            )


def _check_devices(config: TiersConfig, families: Sequence[Family]) -> None:
    """Checks that every engine is on GPUs that have a budget, where GPUs have budgets."""
    for family in families if config.devices else ():
        if not family.devices:
            raise BudgetTooSmall(
                f"family {family.name} does not say which GPUs it computes on, and tiers.devices has a "
                f"budget for each: give families.{family.serves}.devices"
            )
        for number in family.devices:
            if number not in config.devices:
                known = ", ".join(str(each) for each in sorted(config.devices))
                raise BudgetTooSmall(
                    f"family {family.name} computes on GPU {number}, for which tiers.devices has no budget; "
                    f"it has one for {known}"
                )


def _check_pins(family: Family, members: Sequence[Member]) -> None:
    limit, pinned = family.resident_limit, sum(member.pinned for member in members)
    if limit is not None and pinned >= limit and len(members) > limit:
        raise BudgetTooSmall(
            f"family {family.name} holds {limit} at a time of its {len(members)} experts, and {pinned} "
            "pinned: the others could never load; unpin one"
        )


def _size(count: int) -> str:
    return f"{count:,} bytes"
