"""Budgets of the tiers in bytes, out of the settings and of what the machine has."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from experts.engines.engine import Engine
from experts.memory.machine_memory import Room, memory
from experts.memory.shared_memory import shared_memory
from experts.spec import Expert
from memory_tiers.errors import BudgetTooSmall
from memory_tiers.planning.node_plan import NodePlan
from memory_tiers.sizing import FamilyNeeds, Machine, Sized, sized, within_shared_memory
from memory_tiers.tiers import TiersConfig
from server.planning.planned import PlannedSettings

log = logging.getLogger("coe.services")


def budgets_of(
    found: PlannedSettings,
    experts: Mapping[str, Expert],
    engines: Mapping[str, Engine],
    shared: Callable[[], Room] = shared_memory,
) -> Sized:
    """Resolves budgets that are auto, and lowers a host budget that the machine cannot hold. ``shared`` is
    asked what shared memory may take, where that matters. What is given needs no reason: ``why`` is empty
    then, and where nothing is computed, so that everything has room. Raises MemoryUnknown and what ``shared``
    does."""
    settings = found.settings
    if not settings.computes:
        size = sum(expert.weights_bytes for expert in experts.values())
        return Sized(TiersConfig.model_validate({**dict(settings.tiers), "device": max(1, size)}), "")
    if settings.tiers.host == 0 and settings.tiers.device != "auto":
        return Sized(TiersConfig.model_validate(dict(settings.tiers)), "")
    given, warning = within_shared_memory(settings.tiers, shared())
    if warning is not None:
        log.warning("%s", warning)
    if "auto" not in (given.device, given.host):
        return Sized(TiersConfig.model_validate(dict(given)), "")
    families = [
        FamilyNeeds(
            settings.families[name],
            [expert for expert in experts.values() if expert.family == name],
            engine.resident_limit,
            engine.held_bytes,
        )
        for name, engine in engines.items()
        if name in settings.families  # its other engines are counted with the first
    ]
    budgets = sized(given, families, _machine(found.node))
    said = f"tiers.device is {budgets.config.device:,} bytes, tiers.host {budgets.config.host:,}"
    log.info("%s: %s", said, budgets.why)
    return budgets


@contextmanager
def explaining(budgets: Sized) -> Iterator[None]:
    """Has an error of budgets that are auto say what the machine has. Raises BudgetTooSmall."""
    try:
        yield
    except BudgetTooSmall as error:
        if not budgets.why:
            raise
        raise BudgetTooSmall(f"{error}; what is auto is too little: {budgets.why}") from None


def _machine(node: NodePlan | None) -> Machine:
    """Raises MemoryUnknown."""
    if node is None:
        return Machine("cpu", memory(), shared_memory())
    return Machine("cuda", memory(), shared_memory(), node.devices or {0: node.device})
