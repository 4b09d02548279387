"""Says in one line each what to change where a plan does not fit; every change was planned first."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pydantic import ByteSize

from memory_tiers.errors import PlanImpossible
from memory_tiers.planning.demand import FamilyDemand
from memory_tiers.planning.gpus import Gpu
from memory_tiers.planning.node_plan import FamilyPlan, GpuPlan, NodePlan
from memory_tiers.planning.planner import gib, plan

POOL_STEP = 2**30 // 4
"""A smaller pool is a multiple of this."""
GATHER = "as tiers.device is one sum over all GPUs and what one family leaves another may take"


@dataclass(frozen=True, slots=True)
class Change:
    """A change of one family after which the fullest GPU is less full, in words, and what comes of it."""

    family: str
    words: str
    demands: tuple[FamilyDemand, ...]
    planned: NodePlan


def advice(demands: Sequence[FamilyDemand], gpus: Sequence[Gpu], device: int | None) -> list[str]:
    """Returns the lines, each of a family with its alternatives; none where the plan fits. Each line supposes
    that those before it were followed by their first alternative."""
    known, planned = tuple(demands), plan(demands, gpus, device)
    found: list[str] = list(planned.short)
    while worst := max((gpu for gpu in planned.gpus if gpu.over), key=lambda gpu: gpu.over, default=None):
        families = _by_pool(planned, worst)
        changes = next(
            (some for family in families if (some := list(_changes(known, gpus, family, worst, device)))), []
        )
        if not changes:
            changes = [
                change for family in families if (change := _smallest_pool(known, gpus, family, device))
            ]
            del changes[1:]
        if not changes:
            return [*found, _too_much(worst, families)]
        found.append(f"{changes[0].family}: {', or '.join(change.words for change in changes)}")
        known, planned = changes[0].demands, changes[0].planned
    return found


def _by_pool(planned: NodePlan, worst: GpuPlan) -> list[FamilyPlan]:
    """The families on a GPU, the one with the largest pool first."""
    here = [family for family in planned.families if worst.gpu.number in family.devices]
    return sorted(here, key=lambda family: -family.kv_cache)


def _changes(
    demands: tuple[FamilyDemand, ...],
    gpus: Sequence[Gpu],
    family: FamilyPlan,
    worst: GpuPlan,
    device: int | None,
) -> Iterator[Change]:
    over = {gpu.gpu.number: gpu.over for gpu in plan(demands, gpus, device).gpus}

    def tried(words: str, **changed: object) -> Iterator[Change]:
        config = family.demand.config.model_copy(update=changed)
        others = tuple(
            replace(demand, config=config) if demand.name == family.name else demand for demand in demands
        )
        try:
            planned = plan(others, gpus, device)
        except PlanImpossible:
            return
        worse = any(gpu.over > over[gpu.gpu.number] for gpu in planned.gpus)
        mended = not next(gpu.over for gpu in planned.gpus if gpu.gpu.number == worst.gpu.number)
        if mended and not worse and not any(line.startswith(f"{family.name}: ") for line in planned.short):
            yield Change(family.name, words, others, planned)

    pool = (family.kv_cache - worst.over) // POOL_STEP * POOL_STEP
    if family.demand.config.kv_cache is not None and pool > 0:
        yield from tried(f"kv_cache {gib(family.kv_cache)} -> {gib(pool)}", kv_cache=ByteSize(pool))
    elsewhere = (tried(f"devices {list(devices)}", devices=devices) for devices in _elsewhere(gpus, family))
    yield from next((found for change in elsewhere if (found := list(change))), [])
    for other in demands:
        if other.name != family.name and other.experts == 1 and not other.pinned:
            pinned = tuple(replace(each, pinned=1) if each is other else each for each in demands)
            planned = plan(pinned, gpus, device)
            if not next(gpu.over for gpu in planned.gpus if gpu.gpu.number == worst.gpu.number):
                yield Change(family.name, f"pin the expert of {other.name}, {GATHER}", pinned, planned)
    if family.demand.mode == "interleaved" and family.demand.experts > 1:
        yield from tried("mode plain, which holds one expert at a time", mode="plain")
    for ranks in (2, 4, 8):
        if family.demand.ranks < ranks <= len(gpus):
            words = f"tensor_parallel_size {family.demand.ranks} -> {ranks}"
            yield from tried(f"{words} without devices", tensor_parallel_size=ranks, devices=())


def _smallest_pool(
    demands: tuple[FamilyDemand, ...], gpus: Sequence[Gpu], family: FamilyPlan, device: int | None
) -> Change | None:
    """A pool for one sequence of the longest length, where a smaller pool alone does not mend it."""
    least = -(-family.max_model_len * family.demand.kv_bytes_per_token // POOL_STEP) * POOL_STEP
    if family.demand.config.kv_cache is None or least >= family.kv_cache:
        return None
    config = family.demand.config.model_copy(update={"kv_cache": ByteSize(least)})
    others = tuple(replace(each, config=config) if each.name == family.name else each for each in demands)
    words = f"kv_cache {gib(family.kv_cache)} -> {gib(least)}"
    return Change(family.name, words, others, plan(others, gpus, device))


def _elsewhere(gpus: Sequence[Gpu], family: FamilyPlan) -> Iterator[tuple[int, ...]]:
    """Yields neighbouring GPUs, as many as it spans, the last of the node first."""
    ranks = family.demand.ranks
    for first in range(len(gpus) - ranks, -1, -1):
        devices = tuple(gpu.number for gpu in gpus[first : first + ranks])
        if devices != family.devices:
            yield devices


def _too_much(worst: GpuPlan, families: Sequence[FamilyPlan]) -> str:
    names = ", ".join(share.family for share in worst.shares)
    gather = [family for family in families if family.resident > family.demand.least_resident]
    because = f" (up to {gather[0].resident} of {gather[0].name} at once, {GATHER})" if gather else ""
    return (
        f"GPU {worst.gpu.number}: {names} take {worst.over / 1e9:.1f} GB more than 90 % of "
        f"{worst.gpu.bytes / 1e9:.0f} GB{because}: place them with coe plan --solve, or take quantised "
        "checkpoints or more GPUs"
    )
