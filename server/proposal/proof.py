"""Proves a configuration before it is written: by the checks that ``coe serve`` makes, in their order."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from experts.checkpoints.prepared import base_name, chat_template, check_families, generation
from experts.errors import EngineStartFailed
from experts.spec import Expert
from experts.survey.candidate import Adapter, Found, FullWeights
from memory_tiers.feasibility import check_members
from memory_tiers.members import Family, Member
from memory_tiers.planning.node_plan import NodePlan
from memory_tiers.tiers import TiersConfig
from server.config.settings import Settings, load
from server.engine_factory import engine_of
from server.planning.budgets import budgets_of, explaining
from server.planning.planned import planned
from server.routing.catalog import load_routers


@dataclass(frozen=True, slots=True)
class Proof:
    """Configuration that would be served. ``settings``: with every size chosen; ``budgets``: None where
    something is not known yet, such as weights that a hub still has, or an expert that is not prepared."""

    settings: Settings
    experts: Mapping[str, Expert]
    node: NodePlan | None = None
    budgets: TiersConfig | None = None
    unknown: tuple[str, ...] = ()


def proven(file: Path, found: Mapping[str, Found], bases: Mapping[str, FullWeights], store: Path) -> Proof:
    """Checks the configuration in ``file``. ``found``: what its experts are, as far as they were surveyed;
    ``bases``: of its LoRA families; ``store``: a temporary folder. Raises what ``coe serve`` would refuse it
    with."""
    given = load(file)
    _fill(store, given, found, bases)
    result = planned(given.model_copy(update={"store": store}))
    settings = result.settings
    unknown = tuple(name for name in settings.experts if name not in found)
    experts = {
        name: _described(name, settings, each, bases)
        for name, each in found.items()
        if name in settings.experts
    }
    check_families(list(experts.values()))
    load_routers(settings)
    remote = [each.place.shown for each in bases.values() if not any(each.folder.glob("*.safetensors"))]
    if unknown or remote:
        return Proof(settings, experts, result.node, None, (*unknown, *remote))
    try:
        engines = {
            name: engine_of(name, settings, experts.values())
            for name in settings.families
            if any(expert.family == name for expert in experts.values())
        }
    except EngineStartFailed as error:  # no vLLM here: another machine will serve it
        logging.getLogger("coe.init").warning("%s", error)
        return Proof(settings, experts, result.node, None, ("vLLM is not installed",))
    budgets = budgets_of(result, experts, engines)
    with explaining(budgets):
        check_members(
            budgets.config,
            [Member.of(expert) for expert in experts.values()],
            [Family.of(engine) for engine in engines.values()],
        )
    return Proof(settings, experts, result.node, budgets.config)


def _fill(store: Path, given: Settings, found: Mapping[str, Found], bases: Mapping[str, FullWeights]) -> None:
    """Links in ``store`` to what preparation would put there, or has put into the configured one."""
    views = {name: each.folder for name, each in found.items()}
    views |= {base_name(family): base.folder for family, base in bases.items()}
    for name in (*given.experts, *(base_name(family) for family in given.families)):
        (store / name).symlink_to(views.get(name, given.store / name), target_is_directory=True)


def _described(name: str, settings: Settings, each: Found, bases: Mapping[str, FullWeights]) -> Expert:
    """Describes an expert as it will be once it is prepared. Raises CheckpointError."""
    config = settings.experts[name]
    family = settings.families[config.family]
    whole = bases[config.family] if isinstance(each, Adapter) else each
    itself = not isinstance(each, Adapter) and family.base is not None
    own = each.weights.parameters if isinstance(each, Adapter) else 0
    template = ""
    for folder in dict.fromkeys((each.folder, whole.folder)):
        template = template or chat_template(folder, config.chat_template, needed=False)
    if not template and family.task == "generate":
        chat_template(whole.folder, config.chat_template)
    return Expert(
        name=name,
        family=config.family,
        folder=each.folder,
        weights_bytes=0 if itself else each.weights_bytes,
        parameters=whole.parameters + own,
        fingerprint=whole.traits.fingerprint,
        chat_template=template,
        generation=generation(whole.folder, config.generation),
        pinned=config.pinned,
        default=config.default,
        capabilities=config.capabilities,
        task=family.task,
    )
