"""Chooses devices, lengths and pools so that a configuration fits."""

from collections.abc import Sequence
from dataclasses import replace

from memory_tiers.errors import PlanImpossible
from memory_tiers.planning.demand import FamilyDemand
from memory_tiers.planning.gpus import Gpu
from memory_tiers.planning.node_plan import RESERVE, NodePlan
from memory_tiers.planning.planner import plan

RANKS = (1, 2, 4, 8)
KV_ALLOWANCE = 2 * 2**30
"""Bytes that placing counts for each pool on each GPU; the plan then gives it what is left."""


def solve(demands: Sequence[FamilyDemand], gpus: Sequence[Gpu]) -> NodePlan:
    """Places the largest engine first, on the GPUs with the most room, with the smallest
    tensor_parallel_size with which it fits; lengths and pools follow from the plan. Where there are several
    families, one with a single expert has it pinned: ``tiers.device`` is one sum, and another family could
    take its place on other GPUs. Raises PlanImpossible where none is found."""
    room = {gpu.number: int(gpu.bytes * (1 - RESERVE)) for gpu in gpus}
    sizes = {gpu.number: gpu for gpu in gpus}
    placed: dict[str, FamilyDemand] = {}
    for demand in sorted(demands, key=lambda each: -each.shard * each.ranks):
        found = _place(_free(demand), room, sizes)
        if found is None:
            raise PlanImpossible(
                f"{demand.name} fits on no GPUs beside {', '.join(placed) or 'nothing'}: take a quantised "
                "checkpoint or more GPUs"
            )
        for number in found.config.devices:
            room[number] -= _least(found, sizes[number])
        alone = found.experts == 1 and len(demands) > 1
        placed[demand.name] = replace(found, pinned=1) if alone else found
    solved = plan([placed[demand.name] for demand in demands], gpus)
    if not solved.fits:
        raise PlanImpossible(
            "; ".join(solved.short)
            or "the engines fit one by one, and not with all the experts that may gather on a GPU: "
            "tiers.device is one sum over all GPUs; pin experts, or plan fewer families"
        )
    return solved


def _free(demand: FamilyDemand) -> FamilyDemand:
    """The demand with everything open that a solution chooses."""
    return _with(demand, devices=(), kv_cache=None, max_model_len=None, max_num_seqs=None)


def _place(demand: FamilyDemand, room: dict[int, int], gpus: dict[int, Gpu]) -> FamilyDemand | None:
    for ranks in RANKS:
        if ranks < demand.ranks or ranks > len(gpus) or demand.model.architecture.heads % ranks:
            continue
        tried = _with(demand, tensor_parallel_size=ranks)
        best = sorted(room, key=lambda number: (-room[number], number))[:ranks]
        if all(_least(tried, gpus[number]) <= room[number] for number in best):
            return _with(tried, devices=tuple(sorted(best)))
    return None


def _least(demand: FamilyDemand, gpu: Gpu) -> int:
    """The least that an engine takes on a GPU."""
    weights = demand.weights(demand.least_resident) + demand.working_copy
    beside = (
        demand.context
        + demand.graphs(256, demand.least_resident)
        + demand.activations(gpu, demand.model.architecture.context, 256)
    )
    return weights + beside + KV_ALLOWANCE


def _with(demand: FamilyDemand, **changed: object) -> FamilyDemand:
    return replace(demand, config=demand.config.model_copy(update=changed))
