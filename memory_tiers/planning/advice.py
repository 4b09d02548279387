"""Says in one line each what to change where a plan does not fit; every change was planned first."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import ByteSize

from memory_tiers.errors import PlanImpossible
from memory_tiers.planning.budget import Budget, charged_on, spare_on
from memory_tiers.planning.demand import FamilyDemand
from memory_tiers.planning.gpus import Gpu
from memory_tiers.planning.node_plan import FamilyPlan, GpuPlan, NodePlan
from memory_tiers.planning.planner import gib, plan
from memory_tiers.replicas import family_of

POOL_STEP = 2**30 // 4
"""A smaller pool is a multiple of this."""
GATHER = "as tiers.device is one sum over all GPUs and what one family leaves another may take"


@dataclass(frozen=True, slots=True)
class Change:
    """A change after which the fullest GPU is less full, in words, and what comes of it. ``setting``: the
    family or the budget that is changed."""

    setting: str
    words: str
    demands: tuple[FamilyDemand, ...]
    planned: NodePlan
    budget: Budget


def advice(demands: Sequence[FamilyDemand], gpus: Sequence[Gpu], budget: Budget) -> list[str]:
    """Returns the lines, each of a family with its alternatives; none where the plan fits. Each line supposes
    that those before it were followed by their first alternative."""
    known, planned = tuple(demands), plan(demands, gpus, budget)
    found: list[str] = list(planned.short)
    while worst := max((gpu for gpu in planned.gpus if gpu.over), key=lambda gpu: gpu.over, default=None):
        families = _by_pool(planned, worst)
        changes = next(
            (some for family in families if (some := list(_changes(known, gpus, family, worst, budget)))), []
        )
        lesser = (change for family in families if (change := _smallest_pool(known, gpus, family, budget)))
        first = [*_smaller_budget(known, gpus, planned, worst, budget)] or changes or [*lesser][:1]
        if not first:
            return [*found, _too_much(worst, families, budget)]
        found.append(f"{first[0].setting}: {', or '.join(change.words for change in first)}")
        known, planned, budget = first[0].demands, first[0].planned, first[0].budget
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
    budget: Budget,
) -> Iterator[Change]:
    over = {gpu.gpu.number: gpu.over for gpu in plan(demands, gpus, budget).gpus}
    name, engines = _family_of(family.name, demands), _engines_of(family.name, demands)

    def tried(words: str, others: tuple[FamilyDemand, ...]) -> Iterator[Change]:
        try:
            planned = plan(others, gpus, budget)
        except PlanImpossible:
            return
        worse = any(gpu.over > over[gpu.gpu.number] for gpu in planned.gpus)
        mended = not next(gpu.over for gpu in planned.gpus if gpu.gpu.number == worst.gpu.number)
        if mended and not worse and not any(line.startswith(f"{name}: ") for line in planned.short):
            yield Change(name, words, others, planned, budget)

    def changed(**settings: object) -> tuple[FamilyDemand, ...]:
        return _changed(demands, engines, **settings)

    pool = (family.kv_cache - worst.over) // POOL_STEP * POOL_STEP
    if family.demand.config.kv_cache is not None and pool > 0:
        words = f"kv_cache {gib(family.kv_cache)} -> {gib(pool)}"
        yield from tried(words, changed(kv_cache=ByteSize(pool)))
    if len(engines) > 1:
        left = [each for each in demands if each.name in engines and each.name != family.name]
        devices = [number for each in left for number in each.config.devices]
        words = f"replicas {len(engines)} -> {len(left)} with devices {devices}"
        fewer = tried(words, tuple(each for each in demands if each.name != family.name))
        yield from (change for change in fewer if change.planned.fits)
        return
    elsewhere = (
        tried(f"devices {list(devices)}", changed(devices=devices)) for devices in _elsewhere(gpus, family)
    )
    yield from next((found for change in elsewhere if (found := list(change))), [])
    for other in demands if isinstance(budget, int) else ():
        if other.name != family.name and other.experts == 1 and not other.pinned:
            pinned = tuple(replace(each, pinned=1) if each is other else each for each in demands)
            planned = plan(pinned, gpus, budget)
            if not next(gpu.over for gpu in planned.gpus if gpu.gpu.number == worst.gpu.number):
                yield Change(name, f"pin the expert of {other.name}, {GATHER}", pinned, planned, budget)
    if family.demand.mode == "interleaved" and family.demand.experts > 1:
        yield from tried("mode plain, which holds one expert at a time", changed(mode="plain"))
    for ranks in (2, 4, 8):
        if family.demand.ranks < ranks <= len(gpus):
            words = f"tensor_parallel_size {family.demand.ranks} -> {ranks}"
            yield from tried(f"{words} without devices", changed(tensor_parallel_size=ranks, devices=()))


def _smaller_budget(
    demands: tuple[FamilyDemand, ...], gpus: Sequence[Gpu], planned: NodePlan, worst: GpuPlan, budget: Budget
) -> Iterator[Change]:
    """A smaller budget of the GPU in ``tiers.devices``, where what must be there still fits it."""
    number = worst.gpu.number
    if not isinstance(budget, Mapping) or number not in budget:
        return
    lower = budget[number] - max(0, budget[number] - _filled(planned, number, budget)) - worst.over
    lower = lower // 10**8 * 10**8
    tried = {**budget, number: lower}
    found = plan(demands, gpus, tried) if lower > 0 else planned
    mended = not next(gpu.over for gpu in found.gpus if gpu.gpu.number == number)
    if mended and len(found.short) <= len(planned.short):
        words = f"{budget[number] / 1e9:.1f} GB -> {lower / 1e9:.1f} GB"
        yield Change(f"tiers.devices.{number}", words, demands, found, tried)


def _filled(planned: NodePlan, number: int, budget: Mapping[int, int]) -> int:
    """Bytes of a GPU's budget that experts may fill."""
    return charged_on(planned.families, number) + spare_on(planned.families, budget)[number]


def _smallest_pool(
    demands: tuple[FamilyDemand, ...], gpus: Sequence[Gpu], family: FamilyPlan, budget: Budget
) -> Change | None:
    """A pool for one sequence of the longest length, where a smaller pool alone does not mend it."""
    least = -(-family.max_model_len * family.demand.kv_bytes_per_token // POOL_STEP) * POOL_STEP
    if family.demand.config.kv_cache is None or least >= family.kv_cache:
        return None
    others = _changed(demands, _engines_of(family.name, demands), kv_cache=ByteSize(least))
    words = f"kv_cache {gib(family.kv_cache)} -> {gib(least)}"
    name = _family_of(family.name, demands)
    return Change(name, words, others, plan(others, gpus, budget), budget)


def _family_of(engine: str, demands: Sequence[FamilyDemand]) -> str:
    return family_of(engine, {demand.name for demand in demands})


def _engines_of(engine: str, demands: Sequence[FamilyDemand]) -> list[str]:
    """Names all engines of the engine's family, which have one configuration."""
    name = _family_of(engine, demands)
    return [demand.name for demand in demands if _family_of(demand.name, demands) == name]


def _changed(
    demands: Sequence[FamilyDemand], engines: Collection[str], **settings: object
) -> tuple[FamilyDemand, ...]:
    """The demands with other settings of these engines."""
    return tuple(
        replace(each, config=each.config.model_copy(update=settings)) if each.name in engines else each
        for each in demands
    )


def _elsewhere(gpus: Sequence[Gpu], family: FamilyPlan) -> Iterator[tuple[int, ...]]:
    """Yields neighbouring GPUs, as many as it spans, the last of the node first."""
    ranks = family.demand.ranks
    for first in range(len(gpus) - ranks, -1, -1):
        devices = tuple(gpu.number for gpu in gpus[first : first + ranks])
        if devices != family.devices:
            yield devices


def _too_much(worst: GpuPlan, families: Sequence[FamilyPlan], budget: Budget) -> str:
    names = ", ".join(share.family for share in worst.shares)
    several = [family for family in families if family.resident > family.demand.least_resident]
    gather = several if isinstance(budget, int) else []
    because = f" (up to {gather[0].resident} of {gather[0].name} at once, {GATHER})" if gather else ""
    return (
        f"GPU {worst.gpu.number}: {names} take {worst.over / 1e9:.1f} GB more than 90 % of "
        f"{worst.gpu.bytes / 1e9:.0f} GB{because}: place them with coe plan --solve, or take quantised "
        "checkpoints or more GPUs"
    )
