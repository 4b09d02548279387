"""Chooses devices, replicas, lengths and pools so that a configuration fits."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from memory_tiers.errors import PlanImpossible
from memory_tiers.planning.demand import FamilyDemand
from memory_tiers.planning.gpus import Gpu
from memory_tiers.planning.node_plan import RESERVE, NodePlan
from memory_tiers.planning.planner import plan
from memory_tiers.replicas import replica_name

RANKS = (1, 2, 4, 8)
KV_ALLOWANCE = 2 * 2**30
"""Bytes that placing counts for each pool on each GPU; the plan then gives it what is left."""


def solve(demands: Sequence[FamilyDemand], gpus: Sequence[Gpu]) -> NodePlan:
    """Places engines so that the plan fits, each GPU with a budget of its own; lengths and pools follow from
    the plan. ``demands``: one for each family, with its ``replicas``. Raises PlanImpossible where no place is
    found.

    1. The largest family comes first, on the GPUs with the most room, with the smallest
       tensor_parallel_size with which all its replicas fit, none of them on another's GPUs.
    2. Of a family with ``replicas: auto`` one engine is placed with the others, and more, one a family in
       turn, while there is room for them.
    """
    room = _Room(gpus)
    placed = {demand.name: _placed(demand, room) for demand in _largest_first(demands)}
    growing = [demand.name for demand in demands if demand.config.replicas == "auto"]
    while growing:
        name = growing.pop(0)
        another = room.place(placed[name][0], beside=placed[name])
        if another is not None:
            placed[name].append(another)
            growing.append(name)
    engines = [
        replace(engine, name=replica_name(demand.name, number))
        for demand in demands
        for number, engine in enumerate(placed[demand.name])
    ]
    solved = plan(engines, gpus)
    if not solved.fits:
        full = [f"GPU {gpu.gpu.number} by {gpu.over / 1e9:.1f} GB" for gpu in solved.gpus if gpu.over]
        raise PlanImpossible(
            "; ".join(solved.short)
            or f"the engines fit one by one and not together ({', '.join(full)}): plan fewer families or "
            "replicas"
        )
    return solved


class _Room:
    """Keeps the bytes that GPUs have left while engines are placed."""

    def __init__(self, gpus: Sequence[Gpu]) -> None:
        self._gpus = {gpu.number: gpu for gpu in gpus}
        self._left = {gpu.number: int(gpu.bytes * (1 - RESERVE)) for gpu in gpus}

    def place(self, demand: FamilyDemand, beside: Sequence[FamilyDemand] = ()) -> FamilyDemand | None:
        """Places an engine on the GPUs with the most room, on none of an engine in ``beside``; None where
        there is too little."""
        taken = {number for engine in beside for number in engine.config.devices}
        free = [number for number in self._left if number not in taken]
        best = sorted(free, key=lambda number: (-self._left[number], number))[: demand.ranks]
        sizes = {number: _least(demand, self._gpus[number]) for number in best}
        if len(best) < demand.ranks or any(size > self._left[number] for number, size in sizes.items()):
            return None
        self._take(sizes)
        return _with(demand, devices=tuple(sorted(best)), replicas=1)

    def give_back(self, engines: Sequence[FamilyDemand]) -> None:
        for engine in engines:
            self._take({number: -_least(engine, self._gpus[number]) for number in engine.config.devices})

    def _take(self, sizes: Mapping[int, int]) -> None:
        for number, size in sizes.items():
            self._left[number] -= size

    def __len__(self) -> int:
        return len(self._gpus)


def _largest_first(demands: Sequence[FamilyDemand]) -> list[FamilyDemand]:
    return sorted(demands, key=lambda each: -each.shard * each.ranks)


def _placed(demand: FamilyDemand, room: _Room) -> list[FamilyDemand]:
    """Places all replicas of a family (1), of ``auto`` one (2). Raises PlanImpossible."""
    wanted = 1 if demand.config.replicas == "auto" else demand.config.replicas
    opened = _with(demand, devices=(), kv_cache=None, max_model_len=None, max_num_seqs=None)
    for ranks in RANKS:
        if ranks < demand.ranks or ranks > len(room) or demand.model.architecture.heads % ranks:
            continue
        engines: list[FamilyDemand] = []
        while len(engines) < wanted:
            engine = room.place(_with(opened, tensor_parallel_size=ranks), engines)
            if engine is None:
                break
            engines.append(engine)
        if len(engines) == wanted:
            return engines
        room.give_back(engines)
    what = f"{demand.name} fits" if wanted == 1 else f"{wanted} replicas of {demand.name} fit"
    fewer = "" if wanted == 1 else "fewer replicas, "
    raise PlanImpossible(
        f"{what} on no GPUs beside the larger families: take {fewer}a quantised checkpoint or more GPUs"
    )


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
