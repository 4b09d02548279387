"""Plans a node: where each engine is, how many experts are resident, how much KV that leaves.

1. An engine is on the GPUs that its configuration names, or on the first ones.
2. Each engine has its context, graphs, activations, working copy and the KV it was given, and the experts
   that must be resident.
3. A pool that was left out has room for one sequence of the longest length first. A length that was left out
   is the checkpoint's, lowered to what its pool can have.
4. Then more experts become resident, one a family in turn, while their GPUs have room.
5. What is left is KV, in equal parts for the engines on a GPU whose pool was left out.

A tenth of each GPU stays free. A budget in bytes says how many experts are resident: ``tiers.devices`` on
each GPU, where what the planned experts leave of it counts as taken; ``tiers.device`` over all, so that any
family may take what the others leave.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from memory_tiers.errors import PlanImpossible
from memory_tiers.planning.budget import Budget, charged_on, short_of, spare_on
from memory_tiers.planning.demand import FamilyDemand
from memory_tiers.planning.gpus import Gpu
from memory_tiers.planning.node_plan import RESERVE, FamilyPlan, GpuPlan, NodePlan
from memory_tiers.planning.worst_case import most_on, whole

ROUNDED_TO = 256
"""A context that was lowered is a multiple of so many tokens."""
LEAST_CONTEXT = 1024
USUAL_TOKENS = 2048
"""Assumed: tokens of a usual sequence, of which the pool's are to be computed at once."""
MOST_SEQUENCES, LEAST_SEQUENCES = 256, 8
KV_ROUNDED_TO = 64 * 2**20
NONE: Mapping[int, int] = {}
"""No budgets of GPUs."""


def plan(
    demands: Sequence[FamilyDemand], gpus: Sequence[Gpu], budget: Budget = None, *, together: bool = False
) -> NodePlan:
    """Plans ``demands`` on ``gpus``. ``together``: a budget that is auto becomes one over all GPUs, as where
    nobody says on which GPU an engine is. The plan may not fit: it says so. Raises PlanImpossible where a
    configuration cannot be placed at all."""
    known = {gpu.number: gpu for gpu in gpus}
    families = [_first(demand, known) for demand in demands]
    if isinstance(budget, Mapping):
        left = {number: budget.get(number, 0) - charged_on(families, number) for number in known}
        families = _with_more_experts(families, left)
        families = _with_the_rest(_with_pools(families, known, budget), known, budget)
        return _checked(families, gpus, budget)
    families = _with_pools(families, known)
    if budget is None:
        families = _with_more_experts(families, _room(families, known))
        budget = _safe_budget(families, known) if together else None
    if budget is not None:
        families = [replace(family, resident=most_on(families, budget)[family.name]) for family in families]
    return _checked(_with_the_rest(families, known), gpus, budget)


def sequences(kv_tokens: int, max_model_len: int, most: int) -> int:
    """Counts the sequences of a usual length that a pool holds, within bounds."""
    return min(most, max(LEAST_SEQUENCES, kv_tokens // min(USUAL_TOKENS, max_model_len)))


def devices_of(demand: FamilyDemand, known: Mapping[int, Gpu]) -> tuple[int, ...]:
    """Lists an engine's GPUs (1). Raises PlanImpossible."""
    ranks, heads = demand.ranks, demand.model.architecture.heads
    if heads % ranks:
        raise PlanImpossible(
            f"{demand.name}: {heads} attention heads cannot be split over tensor_parallel_size {ranks}"
        )
    wanted = demand.config.devices or tuple(known)
    if len(wanted) < ranks:
        raise PlanImpossible(
            f"{demand.name}: tensor_parallel_size {ranks} needs as many devices, and there are {len(wanted)}"
        )
    missing = [number for number in wanted[:ranks] if number not in known]
    if missing:
        raise PlanImpossible(
            f"{demand.name}: devices {missing} are not there; the node has {len(known)}, from 0"
        )
    return wanted[:ranks]


def _first(demand: FamilyDemand, known: Mapping[int, Gpu]) -> FamilyPlan:
    """The engine with the least of everything that was left out (2)."""
    config = demand.config
    length = config.max_model_len or demand.model.architecture.context
    return FamilyPlan(
        demand,
        devices_of(demand, known),
        demand.least_resident,
        length,
        int(config.kv_cache or 0),
        config.max_num_seqs or MOST_SEQUENCES,
        (f"mode plain: {demand.model.plain_because}",) if demand.mode != config.mode else (),
    )


def _room(
    families: Sequence[FamilyPlan], known: Mapping[int, Gpu], budget: Mapping[int, int] = NONE
) -> dict[int, int]:
    """Bytes that each GPU has left over its reserve, and over its budget for experts."""
    spare = spare_on(families, budget)
    room = {number: int(gpu.bytes * (1 - RESERVE)) - spare.get(number, 0) for number, gpu in known.items()}
    for family in families:
        for number in family.devices:
            room[number] -= family.share(known[number], family.resident).total
    return room


def _part(family: FamilyPlan, families: Sequence[FamilyPlan], room: Mapping[int, int]) -> int:
    """A family's equal part of what is left, on the GPU where that is least."""
    return min(
        room[number] // sum(_open(other) and number in other.devices for other in families)
        for number in family.devices
    )


def _open(family: FamilyPlan) -> bool:
    return family.demand.config.kv_cache is None


def _with_pools(
    families: Sequence[FamilyPlan], known: Mapping[int, Gpu], budget: Mapping[int, int] = NONE
) -> list[FamilyPlan]:
    """Gives pools their least, and lowers lengths to it (3)."""
    room = _room(families, known, budget)
    parts = {family.name: _part(family, families, room) for family in families if _open(family)}
    return [_with_pool(family, parts.get(family.name)) for family in families]


def _with_pool(family: FamilyPlan, part: int | None) -> FamilyPlan:
    per_token = family.demand.kv_bytes_per_token
    most = family.kv_tokens if part is None else max(0, part) // per_token
    length = family.max_model_len
    notes = family.notes
    if family.demand.config.max_model_len is None and length > most:
        length = max(LEAST_CONTEXT, most // ROUNDED_TO * ROUNDED_TO)
        notes += (f"max_model_len is {length:,}: the checkpoint's {family.max_model_len:,} does not fit",)
    pool = family.kv_cache if part is None else _rounded_up(length * per_token)
    return replace(family, max_model_len=length, kv_cache=pool, notes=notes)


def _with_more_experts(families: Sequence[FamilyPlan], left: Mapping[int, int]) -> list[FamilyPlan]:
    """Makes experts resident, one a family in turn (4). ``left``: bytes for them on each GPU."""
    found = {family.name: family for family in families}
    room = dict(left)
    waiting = list(found)
    while waiting:
        name = waiting.pop(0)
        family = found[name]
        size = family.demand.charged
        full = family.resident >= family.demand.most_resident
        if full or any(room[number] < size for number in family.devices):
            continue
        for number in family.devices:
            room[number] -= size
        found[name] = replace(family, resident=family.resident + 1)
        waiting.append(name)
    return list(found.values())


def _safe_budget(families: Sequence[FamilyPlan], known: Mapping[int, Gpu]) -> int:
    """The bytes of the planned experts, lowered while experts that gather on one GPU could overfill it:
    ``tiers.device`` is one sum over all GPUs."""
    device = sum(family.resident * whole(family) for family in families)
    least = sum(family.demand.least_resident * whole(family) for family in families)
    smallest = min((family.demand.charged for family in families), default=1)
    while device > least:
        counts = most_on(families, device)
        worst = [replace(family, resident=counts[family.name]) for family in families]
        if min(_room(worst, known).values()) >= 0:
            break
        device -= smallest
    return max(device, least)


def _with_the_rest(
    families: Sequence[FamilyPlan], known: Mapping[int, Gpu], budget: Mapping[int, int] = NONE
) -> list[FamilyPlan]:
    """Gives what is left to the pools that were left out, and as many sequences as they hold (5)."""
    room = _room(families, known, budget)
    found = []
    for family in families:
        if _open(family):
            more = max(0, _part(family, families, room)) // KV_ROUNDED_TO * KV_ROUNDED_TO
            family = replace(family, kv_cache=family.kv_cache + more)
        if family.demand.config.max_num_seqs is None:
            chosen = sequences(family.kv_tokens, family.max_model_len, MOST_SEQUENCES)
            family = replace(family, max_num_seqs=chosen)
        found.append(family)
    return found


def _checked(families: Sequence[FamilyPlan], gpus: Sequence[Gpu], budget: Budget) -> NodePlan:
    short = [
        f"{family.name}: kv_cache {gib(family.kv_cache)} -> "
        f"{gib(_rounded_up(family.max_model_len * family.demand.kv_bytes_per_token))}, or max_model_len "
        f"{family.max_model_len} -> {max(0, family.kv_tokens // ROUNDED_TO * ROUNDED_TO)}: "
        "the pool does not hold one sequence"
        for family in families
        if family.kv_tokens < family.max_model_len and family.demand.config.task == "generate"
    ]
    given = budget if isinstance(budget, Mapping) else NONE
    spare = spare_on(families, given)
    plans = tuple(
        GpuPlan(
            gpu,
            tuple(f.share(gpu, f.resident) for f in families if gpu.number in f.devices),
            spare.get(gpu.number, 0),
        )
        for gpu in gpus
    )
    if isinstance(budget, int):
        least = sum(family.demand.least_resident * whole(family) for family in families)
        if budget < least:
            short.append(f"tiers.device {budget / 1e9:.1f} GB -> {-(-least // 10**8) / 10:.1f} GB, or auto")
        return NodePlan(plans, tuple(families), budget, short=tuple(short))
    short += short_of(families, given) if budget is not None else ()
    found = NodePlan(plans, tuple(families), 0, given, tuple(short))
    return replace(found, device=sum(found.device_parts.values()), devices=found.device_parts)


def gib(size: int) -> str:
    """Writes bytes as the configuration does."""
    return f"{size / 2**30:.4g} GiB"


def _rounded_up(size: int) -> int:
    return -(-size // KV_ROUNDED_TO) * KV_ROUNDED_TO
