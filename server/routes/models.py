"""Endpoints that the gateway answers by itself: models and health."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from memory_tiers.status import MoveProgress
from server.access.admission import check_model
from server.access.auth import authorization_of
from server.errors import UnknownModel
from server.services import NodeServices
from server.transport.request_id import REQUEST_ID

router = APIRouter()
_ANTHROPIC = "anthropic-version"
"""Header that identifies Anthropic's clients; they get its list."""


@router.get("/v1/models")
async def models(request: Request) -> Response:
    """List the compositions, experts and aliases that the key may use. ``coe`` has each expert's tier, and
    its progress while it moves."""
    shown = permitted(request)
    if _ANTHROPIC in request.headers:
        return JSONResponse(models_of(shown), headers=_anthropics(request))
    return JSONResponse({"object": "list", "data": shown})


@router.get("/v1/models/{name}")
async def model(request: Request, name: str) -> Response:
    """Read one entry of the list; a composition's budget may be named (``coe:31B``), and what an alias with
    ``*`` stands for."""
    entry = await entry_of(request, name)
    if _ANTHROPIC in request.headers:
        return JSONResponse(model_of(entry), headers=_anthropics(request))
    return JSONResponse(entry)


def permitted(request: Request) -> list[dict[str, Any]]:
    """Returns the entries that the request's key may see. Raises Unauthorized."""
    services: NodeServices = request.app.services
    key = services.keys.check(authorization_of(request.headers))
    names_of = services.catalog.aliases.names_of
    return [entry for entry in entries(services) if key.may_use(names_of(entry["id"]))]


async def entry_of(request: Request, name: str) -> dict[str, Any]:
    """Returns the entry of what ``name`` stands for, called so. Raises Unauthorized, UnknownModel, and
    BadRequest or OverLimit where there is no map for a budget."""
    services: NodeServices = request.app.services
    key = services.keys.check(authorization_of(request.headers))
    aliases = services.catalog.aliases
    names = aliases.names_of(name)
    check_model(key, names)
    model = aliases.model_of(name) or name
    listed = aliases.without_budget(model)
    # coe:31B is coe under a budget, whose map may have to be solved.
    async with nullcontext() if model == listed else services.admissions.of(key).entered(names):
        await services.named(model, key.name)
    found = next((entry for entry in entries(services) if entry["id"] == listed), None)
    if found is None:  # a reload took it away while its map was solved
        raise UnknownModel(f"The model {name[:100]!r} was removed by a reload.", "model")
    return {**found, "id": name} if name == model else _as_alias(name, model, found)


def entries(services: NodeServices) -> list[dict[str, Any]]:
    """Returns the entries of OpenAI's list, as of now."""

    def entry(name: str, detail: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": name,
            "object": "model",
            "created": services.started,
            "owned_by": "composition-of-experts",
            "coe": detail,
        }

    compositions = [
        entry(
            name,
            {
                "kind": "composition",
                "description": composition.description,
                "embedding_dimensions": services.catalog.routing.dimensions[name],
            },
        )
        for name, composition in services.settings.compositions.items()
    ]
    moves = {move.expert: move for move in services.tiers.progress()}
    experts = [
        entry(
            status.expert,
            {
                "kind": "expert",
                "description": services.experts[status.expert].description,
                "parameters": services.experts[status.expert].parameters,
                "family": status.family,
                "task": services.experts[status.expert].task,
                "capabilities": services.experts[status.expert].capabilities,
                "context_length": services.settings.families[status.family].context,
                "tier": status.tier,
                "ready": any(services.engines[name].state == "ready" for name in status.engines),
                "loading": status.loading,
                "breaker_open": services.breakers.is_open(services.experts[status.expert]),
                "pinned": status.pinned,
                "weights_bytes": status.weights_bytes,
                **_progress(moves.get(status.expert)),
            },
        )
        for status in services.tiers.status()
    ]
    aliases = services.catalog.aliases
    by_name = {entry["id"]: entry for entry in compositions + experts}
    models = {alias: aliases.model_of(alias) or alias for alias in aliases}
    return [
        *by_name.values(),
        *(_as_alias(alias, model, by_name[aliases.without_budget(model)]) for alias, model in models.items()),
    ]


def _as_alias(name: str, model: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the entry of a model under another name."""
    return {**entry, "id": name, "coe": {**entry["coe"], "alias_of": model}}


def _anthropics(request: Request) -> dict[str, str]:
    """Returns the headers by which Anthropic's clients know an answer."""
    return {"request-id": request.scope[REQUEST_ID]}


def _progress(move: MoveProgress | None) -> dict[str, Any]:
    """Returns the progress of a moving expert. ``done`` and ``remaining_s`` are null where nothing is
    known."""
    if move is None:
        return {}
    on_its_way = {"from": move.source, "to": move.target, "done": move.done, "remaining_s": move.remaining_s}
    return {"progress": on_its_way}


@router.get("/health")
async def health() -> Response:
    """Say that the gateway process answers."""
    return JSONResponse({"status": "ok"})


def model_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Returns Anthropic's entry for one of OpenAI's list, as ``server.routes.models.entries`` has it."""
    created = datetime.fromtimestamp(entry["created"], UTC)
    return {
        "type": "model",
        "id": entry["id"],
        "display_name": entry["coe"]["description"] or entry["id"],
        "created_at": created.isoformat().replace("+00:00", "Z"),
        "lifecycle": "active",
        "max_input_tokens": entry["coe"].get("context_length"),
        "coe": entry["coe"],
    }


def models_of(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A list of all models, on one page."""
    data = [model_of(entry) for entry in entries]
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"data": data, "has_more": False, "first_id": first, "last_id": last}
