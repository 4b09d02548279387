"""The settings with all that was left out chosen, before anything is started; what cannot fit is refused."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ByteSize

from experts.errors import CheckpointUnreadable
from experts.memory.machine_memory import memory
from experts.spec import FamilyConfig
from experts.vllm_version import installed_vllm
from memory_tiers.errors import PlanImpossible
from memory_tiers.gpu_memory import gpus_here
from memory_tiers.planning.advice import advice
from memory_tiers.planning.budget import Budget, budget_of
from memory_tiers.planning.demand import FamilyDemand
from memory_tiers.planning.gpus import Gpu
from memory_tiers.planning.main_memory import sizes_in_main_memory
from memory_tiers.planning.node_plan import FamilyPlan, NodePlan
from memory_tiers.planning.planner import plan
from memory_tiers.replicas import family_of
from server.config.settings import Settings
from server.planning.demands import demands_of, on_each_engine

log = logging.getLogger("coe.plan")
UTILIZATION = "--gpu-memory-utilization"
CHOSEN = ("max_model_len", "kv_cache", "max_num_seqs")
"""The fields of a family that are chosen where they are left out; with GPUs ``devices`` is, too."""


@dataclass(frozen=True, slots=True)
class PlannedSettings:
    """``settings``: with every size in numbers. ``node``: None where nothing computes on GPUs."""

    settings: Settings
    node: NodePlan | None = None


def planned(settings: Settings) -> PlannedSettings:
    """Plans for this machine. Reads files: not for the event loop. Raises PlanImpossible where a GPU cannot
    hold what is configured, CheckpointError where a model is not known, MemoryUnknown."""
    if not settings.computes:
        return PlannedSettings(_of_a_gateway(settings))
    vllm = installed_vllm()
    gpus: tuple[Gpu, ...] = ()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if vllm is not None and vllm.platform == "cuda":
        there = [Gpu(number, size) for number, size in enumerate(gpus_here())]
        gpus = visible_first(there, visible)
    if not gpus:
        return PlannedSettings(in_main_memory(_without_gpus(settings)))
    return on_gpus(settings, gpus, place=numbered(visible))


def _of_a_gateway(settings: Settings) -> Settings:
    """Leaves out what needs engines, or is kept by nodes."""
    families: dict[str, dict[str, object]] = {
        name: {"devices": (), "replicas": 1} for name in settings.families
    }
    tiers = settings.tiers.model_copy(update={"devices": {}, "host": ByteSize(0)})
    return _with(settings, families).model_copy(update={"tiers": tiers, "batches": None})


def _without_gpus(settings: Settings) -> Settings:
    """Settles that families with ``replicas: auto`` have one engine: several on one processor take it from
    each other."""
    auto = {name for name, family in settings.families.items() if family.replicas == "auto"}
    for name in auto:
        log.info("family %s: replicas auto is 1, as there are no GPUs", name)
    return _with(settings, {name: {"replicas": 1} for name in auto})


def in_main_memory(settings: Settings) -> Settings:
    """Chooses sizes by the main memory that is free; reads nothing where all are given."""
    open_families = {
        name: family
        for name, family in settings.families.items()
        if family.mode != "simulated" and any(getattr(family, field) is None for field in CHOSEN)
    }
    demands = [demand for name in open_families for demand in _readable(settings, name)]
    chosen: dict[str, dict[str, object]] = {}
    if not demands:
        return settings
    everyone = [each for demand in demands for each in [demand] * demand.config.engines]
    for name, sizes in sizes_in_main_memory(everyone, memory().bytes).items():
        chosen[name] = {
            "max_model_len": sizes.max_model_len,
            "kv_cache": ByteSize(sizes.kv_cache),
            "max_num_seqs": sizes.max_num_seqs,
        }
        _say(name, settings.families[name], chosen[name], sizes.notes)
    return _with(settings, chosen)


def _readable(settings: Settings, family: str) -> tuple[FamilyDemand, ...]:
    """A family's demand; nothing where its config.json does not say what the model takes: vLLM chooses then,
    as it does for any model."""
    try:
        return demands_of(settings, [family])
    except CheckpointUnreadable as error:
        log.warning("family %s: what is left out is left to vLLM: %s", family, error)
        return ()


def on_gpus(settings: Settings, gpus: Sequence[Gpu], *, place: bool = True) -> PlannedSettings:
    """Chooses sizes by the plan for ``gpus``, and with ``place`` each engine's GPUs. Raises
    PlanImpossible."""
    demands = on_each_engine(demands_of(settings, settings.families), gpus)
    if not demands:
        return PlannedSettings(settings)
    budget = budget_of(settings.tiers)
    placed = place or all(demand.config.devices for demand in demands)
    node = plan(demands, gpus, budget, together=not placed)
    if not node.fits:
        _refuse_or_warn(node, demands, gpus, budget)
    unplaced = [name for name, each in settings.families.items() if each.replicas != 1 and not each.devices]
    if unplaced and not place:
        raise PlanImpossible(
            f"{unplaced[0]}: CUDA_VISIBLE_DEVICES names GPUs by no numbers, so that its replicas would share "
            "one: give the family's devices"
        )
    engines: dict[str, list[FamilyPlan]] = {}
    for engine in node.families:
        engines.setdefault(family_of(engine.name, settings.families), []).append(engine)
    chosen = {name: _of_plan(group, settings.families[name], node, place) for name, group in engines.items()}
    for name, group in engines.items():
        _say(name, settings.families[name], chosen[name], group[0].notes)
    return PlannedSettings(_with(settings, chosen), node)


def as_before(new: Settings, old: Settings) -> Settings:
    """Takes over what was chosen for families that are served, so that a reload compares what is written.
    ``old``: the settings that are served."""
    return _with(
        new,
        {
            name: _kept(family, old.families[name])
            for name, family in new.families.items()
            if name in old.families
        },
    )


def _kept(new: FamilyConfig, old: FamilyConfig) -> dict[str, object]:
    kept: dict[str, object] = {field: getattr(old, field) for field in CHOSEN if getattr(new, field) is None}
    if not new.devices:
        kept["devices"] = old.devices
    if new.replicas == "auto":
        kept["replicas"] = old.replicas
    if old.extra_args[:1] == (UTILIZATION,) and old.extra_args[2:] == new.extra_args:
        kept["extra_args"] = old.extra_args
    return kept


def _of_plan(
    engines: Sequence[FamilyPlan], config: FamilyConfig, node: NodePlan, place: bool
) -> dict[str, object]:
    """The sizes of a family, which all its ``engines`` can have. An engine asks vLLM for its part of a GPU
    alone: vLLM wants 0.92 of it free by default, also where the KV pool's bytes are given
    (``v1/worker/gpu_worker.py``)."""
    given = config.extra_args
    asked = any(word.partition("=")[0] == UTILIZATION for word in given)
    return {
        "max_model_len": min(engine.max_model_len for engine in engines),
        "kv_cache": ByteSize(min(engine.kv_cache for engine in engines)),
        "max_num_seqs": min(engine.max_num_seqs for engine in engines),
        "devices": tuple(n for engine in engines for n in engine.devices) if place else config.devices,
        "replicas": len(engines),
        "extra_args": given if asked else (UTILIZATION, f"{max(map(node.utilization, engines)):.2f}", *given),
    }


def _refuse_or_warn(
    node: NodePlan, demands: Sequence[FamilyDemand], gpus: Sequence[Gpu], budget: Budget
) -> None:
    change = "; ".join(advice(demands, gpus, budget))
    if node.overflows:
        raise PlanImpossible(f"{change} (coe plan shows the whole plan; planned, not measured)")
    log.warning("less than a tenth of a GPU stays free: %s", change)


def _say(name: str, given: FamilyConfig, chosen: Mapping[str, object], notes: Sequence[str]) -> None:
    said = [f"{field} {chosen[field]}" for field in CHOSEN if getattr(given, field) is None]
    if said or notes:
        log.info("family %s: chosen %s", name, "; ".join([", ".join(said) or "nothing", *notes]))


def _with(settings: Settings, chosen: Mapping[str, Mapping[str, object]]) -> Settings:
    families = {
        name: family.model_copy(update=dict(chosen.get(name, {})))
        for name, family in settings.families.items()
    }
    return settings.model_copy(update={"families": families})


def numbered(visible: str | None) -> bool:
    """Whether CUDA_VISIBLE_DEVICES names GPUs by their numbers, or does not choose among them. Others (by
    UUID, parts of one) are left to CUDA: an engine is then on those that it finds."""
    return all(word.strip().isdecimal() for word in (visible or "").split(",") if word.strip())


def visible_first(gpus: Sequence[Gpu], visible: str | None) -> tuple[Gpu, ...]:
    """Puts the GPUs that CUDA_VISIBLE_DEVICES names first: an engine without ``devices`` takes those."""
    named = [int(word) for word in (visible or "").split(",") if word.strip().isdecimal()]
    by_number = {gpu.number: gpu for gpu in gpus}
    first = [by_number.pop(number) for number in named if number in by_number]
    return (*first, *by_number.values())
