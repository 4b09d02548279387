"""The catalog of one configuration, in which requests look up models. A reload puts another in its place."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from experts.checkpoints.prepared import check_families, open_expert
from experts.spec import Expert
from router.artifacts.artifact import Artifact
from router.canary import Canary, check_same_rows
from router.composition import Composition
from router.errors import MappingError
from router.languages import Languages
from router.mapping.budget_solver import Solver
from router.router import Router
from router.settings import CompositionConfig
from server.config.aliases import Aliases
from server.config.api_keys import KeyRing, hashed_of
from server.config.settings import GIVES_VECTORS, Settings, SettingsError
from server.routing.routing import Observe, Routing
from server.routing.thread_pools import Workers


@dataclass(frozen=True, slots=True)
class Catalog:
    """Catalog of one configuration. A request keeps the catalog that it was routed by."""

    settings: Settings
    experts: Mapping[str, Expert]
    routing: Routing
    keys: KeyRing
    aliases: Aliases

    @classmethod
    def read(cls, settings: Settings, observe: Observe, workers: Workers) -> "Catalog":
        """Reads prepared checkpoints and routers: not for the event loop. Raises CheckpointError,
        RouterError, SettingsError."""
        experts = open_experts(settings)
        windows = {name: family.context for name, family in settings.families.items()}
        aliases = settings.names()
        routing = Routing(compositions_of(settings), experts, windows, observe, workers, [*aliases])
        keys = KeyRing(map(hashed_of, settings.server.api_keys))
        return cls(settings, experts, routing, keys, aliases)


def open_experts(settings: Settings) -> dict[str, Expert]:
    """Returns the prepared experts. Raises CheckpointError when one is not there or a family does not
    match."""
    experts = {
        name: replace(
            open_expert(
                name,
                config,
                settings.store,
                settings.base_of(name),
                settings.task_of(name),
                weights=settings.computes,
            ),
            parses_tools=settings.families[config.family].parses_tools,
        )
        for name, config in settings.experts.items()
    }
    check_families(list(experts.values()))
    return experts


def compositions_of(settings: Settings) -> dict[str, Composition]:
    """Returns the compositions. Raises what ``load_routers`` does."""
    routers = load_routers(settings)
    canaries = canaries_of(settings, routers)
    return {
        name: Composition(
            router,
            margin=settings.compositions[name].stickiness,
            stay_margin=settings.compositions[name].stay_margin,
            residency_margin=settings.compositions[name].residency_margin,
            canary=canaries.get(name),
            languages=_languages(settings, name),
            fallback=settings.compositions[name].fallback,
            solver=_solver(router, settings, settings.compositions[name]),
        )
        for name, router in routers.items()
    }


def _languages(settings: Settings, name: str) -> Languages | None:
    """Returns the languages of a composition that have experts. Raises SettingsError."""
    experts, where = settings.compositions[name].languages, f"compositions.{name}.languages"
    if not experts:
        return None
    wrong = sorted({*experts.values()} - {*settings.generating})
    if wrong:
        raise SettingsError(f"{where} names {', '.join(wrong)}: no expert of that name generates text")
    try:
        return Languages(experts)
    except MappingError as error:
        raise SettingsError(f"{where}: {error}") from error


def _solver(router: Router, settings: Settings, config: CompositionConfig) -> Solver:
    artifact = router.artifact
    fixed = config.mapping if _is_solved(router, config) else None
    return artifact.solver(
        settings.generating, config.total_params, config.min_margin, fixed, config.steps or artifact.steps
    )


def _is_solved(router: Router, config: CompositionConfig) -> bool:
    """Says whether a configuration asks for another map than the artifact's or its own."""
    bounded = config.active_params is not None or config.total_params is not None
    return bounded or config.steps == "one" or config.steps not in (None, router.artifact.steps)


def load_routers(settings: Settings) -> dict[str, Router]:
    """Loads the router of each composition, with the configuration's mapping or the map for its budgets, if
    it has one of these.

    Raises RouterError, and SettingsError when a router's map names an expert that is not configured or that
    embeds.
    """
    return {
        name: _loaded(settings, f"compositions.{name}", composition)
        for name, composition in settings.compositions.items()
    }


def _loaded(settings: Settings, where: str, composition: CompositionConfig) -> Router:
    """Loads one router; ``where`` its configuration is."""
    router = Router.load(composition.artifact)
    try:
        router = router.with_names(composition.experts)
        if _is_solved(router, composition):
            router = router.with_map(_solver(router, settings, composition).map(composition.active_params))
        elif composition.mapping:
            router = router.with_mapping(composition.mapping)
    except MappingError as error:
        raise SettingsError(f"{where}: {error}") from error
    missing = sorted(set(router.experts) - settings.experts.keys())
    embedding = sorted(set(router.experts) & settings.experts.keys() - settings.generating)
    if missing:
        raise SettingsError(
            f"{where}: its router chooses {', '.join(missing)}; define them under experts, say what they are "
            f"called here in {where}.experts, or give {where}.mapping"
        )
    if embedding:
        raise SettingsError(
            f"{where}: its router chooses {', '.join(embedding)}, which {GIVES_VECTORS}; "
            f"give {where}.mapping, or the embedding model another name"
        )
    return router


def canaries_of(settings: Settings, routers: Mapping[str, Router]) -> dict[str, Canary]:
    """Returns the canary of each composition that has one. Raises what ``load_routers`` does."""
    found = {}
    for name, composition in settings.compositions.items():
        if composition.canary is None:
            continue
        where = f"compositions.{name}.canary"
        config = composition.model_copy(update={"artifact": composition.canary.artifact})
        known = Artifact.read(composition.canary.artifact)
        names = {old: new for old, new in composition.experts.items() if known.knows(old)}
        tried = _loaded(settings, where, config.model_copy(update={"experts": names}))
        try:
            check_same_rows(routers[name].artifact, tried.artifact)
        except MappingError as error:
            raise SettingsError(f"{where}: {error}") from error
        found[name] = Canary(tried.artifact.mapping, composition.canary.share)
    return found
