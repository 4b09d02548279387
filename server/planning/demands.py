"""Reads what each family of a configuration asks of a node, from files that are there and facts published."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from experts.checkpoints.prepared import base_name
from experts.footprint.find import find_model
from experts.footprint.model import Model
from experts.spec import CheckpointSource, FamilyConfig
from memory_tiers.errors import PlanImpossible
from memory_tiers.planning.demand import FamilyDemand
from memory_tiers.planning.gpus import Gpu
from memory_tiers.replicas import replica_name
from server.config.settings import Settings

ASSUMED_RANK = 16
"""Assumed of LoRA adapters before they are prepared: a usual rank, on all linear layers."""
SPARE_PLACES = 2
"""Places beyond ``max_loras`` (``experts.vllm.adapter_places``)."""


def demands_of(settings: Settings, families: Iterable[str]) -> tuple[FamilyDemand, ...]:
    """Lists those of ``families`` that have experts and real engines. Raises CheckpointMissing,
    CheckpointUnreadable."""
    return tuple(_demand(settings, name) for name in families if _real(settings, name))


def on_each_engine(demands: Iterable[FamilyDemand], gpus: Sequence[Gpu]) -> tuple[FamilyDemand, ...]:
    """Lists a demand for each engine of each family, with the GPUs that are its part. Raises
    PlanImpossible."""
    found: list[FamilyDemand] = []
    for demand in demands:
        wanted = demand.config.devices or tuple(gpu.number for gpu in gpus)
        given, ranks = demand.config.replicas, demand.ranks
        count = max(1, len(wanted) // ranks) if given == "auto" else given
        if count == 1:
            found.append(_alone(demand, demand.name, demand.config.devices))
            continue
        if count * ranks > len(wanted):
            raise PlanImpossible(
                f"{demand.name}: {count} replicas of tensor_parallel_size {ranks} need {count * ranks} "
                f"devices, and there are {len(wanted)}"
            )
        parts = (wanted[number * ranks : (number + 1) * ranks] for number in range(count))
        found += [_alone(demand, replica_name(demand.name, k), part) for k, part in enumerate(parts)]
    return tuple(found)


def _alone(demand: FamilyDemand, name: str, devices: tuple[int, ...]) -> FamilyDemand:
    config = demand.config.model_copy(update={"devices": devices, "replicas": 1})
    return replace(demand, name=name, config=config)


def _real(settings: Settings, name: str) -> bool:
    used = any(expert.family == name for expert in settings.experts.values())
    return used and settings.families[name].mode != "simulated"


def _demand(settings: Settings, name: str) -> FamilyDemand:
    family = settings.families[name]
    members = {key: expert for key, expert in settings.experts.items() if expert.family == name}
    model = find_model(
        [settings.store / key for key in ([base_name(name)] if family.base else members)],
        list(_sources(family, [expert.checkpoint for expert in members.values()])),
        name,
    )
    return FamilyDemand(
        name,
        family,
        model,
        len(members),
        sum(expert.pinned for expert in members.values()),
        _adapters(family, model) if family.base else 0,
    )


def _sources(family: FamilyConfig, of_experts: list[CheckpointSource]) -> Iterator[CheckpointSource]:
    """Yields the sources that can tell the model: of a LoRA family its base alone."""
    if family.base is not None:
        yield family.base
    else:
        yield from of_experts


def _adapters(family: FamilyConfig, model: Model) -> int:
    """Estimates the places for adapters on each GPU: rank x (inputs + outputs) of each linear layer."""
    a = model.architecture
    attention = 2 * a.hidden + 2 * (a.heads + a.kv_heads) * a.head_width + 2 * a.hidden
    feed_forward = 3 * (a.hidden + a.intermediate)
    place = ASSUMED_RANK * a.layers * (attention + feed_forward) * 2
    return (family.max_loras + SPARE_PLACES) * place
