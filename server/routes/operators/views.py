"""Paths by which operators look at parts, under ``/v1/coe``: compositions, experts, logs, settings."""

import asyncio
import logging
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request

from experts.errors import ExpertsError
from memory_tiers.errors import TiersError
from router.composition import Composition
from router.errors import MappingError
from server.access.listed_keys import listed
from server.config.api_keys import hashed_of
from server.config.settings import SettingsError
from server.errors import BadRequest, UnknownModel
from server.live.compositions_view import composition_of, frontier_of
from server.live.configuration_view import changes, in_force
from server.live.experts_view import experts_of
from server.live.logs_view import GATEWAY, engine_logs, of_engine, of_gateway
from server.reload.reload import Reload
from server.routes.operators.rights import ForOperators
from server.services import NodeServices

router = APIRouter(prefix="/v1/coe")
Level = Literal["info", "warning", "error"]


@router.get("/compositions")
async def compositions(services: ForOperators) -> dict[str, Any]:
    """Show each composition's categories with their experts, and what was seen of them of late."""
    stories = list(services.observer.stories)
    told = [
        composition_of(name, await _composition(services, name), stories)
        for name in services.settings.compositions
    ]
    return {"compositions": told}


@router.get("/compositions/{name:path}/frontier")
async def frontier(name: str, services: ForOperators) -> dict[str, Any]:
    """Show the best maps at all budgets: quality against cost. ``maps`` is null, and ``why`` says why, where
    there are no scores."""
    composition = await _composition(services, name)
    try:
        return {
            "name": name,
            "maps": await services.workers.solve(lambda: frontier_of(composition)),
            "why": "",
        }
    except MappingError as error:
        return {"name": name, "maps": None, "why": str(error)}


@router.get("/experts")
async def experts(services: ForOperators) -> dict[str, Any]:
    """Show where each expert comes from, its hashes, licence and canary."""
    return {"experts": await asyncio.to_thread(experts_of, list(services.experts.values()))}


@router.get("/keys")
async def keys(services: ForOperators) -> dict[str, Any]:
    """Show the API keys with their limits: those of the configuration, and those that were made, without
    their secrets."""
    configured = [hashed_of(key).key for key in services.settings.server.api_keys]
    return {"keys": listed(configured, await services.accounts.made_keys())}


@router.get("/configuration")
async def configuration(services: ForOperators, request: Request) -> dict[str, Any]:
    """Show the settings in force without secrets, and what differs in the file now. ``problem``: why the file
    cannot be served."""
    reload: Reload = request.app.state.reload
    text = in_force(services.settings)
    try:
        coming = await asyncio.to_thread(reload.coming)
    except (SettingsError, ExpertsError, TiersError) as error:
        return {"in_force": text, "changes": [], "problem": str(error)}
    return {"in_force": text, "changes": changes(services.settings, coming), "problem": ""}


@router.get("/logs")
async def logs(
    services: ForOperators,
    source: str = GATEWAY,
    after: Annotated[int, Query(ge=0)] = 0,
    level: Level = "info",
) -> dict[str, Any]:
    """Show lines of the gateway's log or of an engine's: the latest, or those ``after`` an earlier answer's
    ``next``."""
    files = engine_logs(services.settings.logs, services.settings.families)
    least = logging.getLevelNamesMapping()[level.upper()]
    if source == GATEWAY:
        part = of_gateway(services.observer.log_lines, after, least)
    elif source in files:
        part = await asyncio.to_thread(of_engine, files[source], after, least)
    else:
        known = ", ".join([GATEWAY, *files])
        raise BadRequest(f"'source' is {source[:100]!r}; there are logs of {known}.", "source")
    return {
        "sources": [GATEWAY, *files],
        "source": source,
        "lines": part.lines,
        "next": part.next,
        "anew": part.anew,
    }


async def _composition(services: NodeServices, name: str) -> Composition:
    """Returns a composition by its name. Raises UnknownModel."""
    named = await services.named(name, "") if name in services.settings.compositions else None
    if named is None:
        known = ", ".join(services.settings.compositions) or "none"
        raise UnknownModel(f"There is no composition {name[:100]!r}. Compositions: {known}.")
    return named.composition
