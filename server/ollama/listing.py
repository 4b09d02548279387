"""Ollama's endpoints that the gateway answers by itself: what there is, and that nothing is pulled."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from server.errors import NotSpoken
from server.ollama.details import listed, shown_whole, time_of
from server.ollama.request import model_named
from server.routes.models import entry_of, permitted
from server.routes.schemas import OLLAMA_ERRORS
from server.services import NodeServices
from server.transport.json_body import body_schema, read_model

router = APIRouter(prefix="/api", responses=OLLAMA_ERRORS)
SPOKEN = "0.12.11"
"""Version of Ollama whose API is spoken. Tools compare it with the least that they need."""
_STAYS = timedelta(days=36500)
"""Time that Ollama says for what stays without an end."""


class ShowSent(BaseModel):
    """Ollama's request for what is known of a model."""

    model_config = ConfigDict(extra="ignore")

    model: Annotated[str, Field(min_length=1)]


@router.get("/version")
async def version(request: Request) -> Response:
    """Say which version of Ollama's API is spoken, and the gateway's own."""
    services: NodeServices = request.app.services
    return JSONResponse({"version": SPOKEN, "coe": services.version})


@router.get("/tags")
async def tags(request: Request) -> Response:
    """List in Ollama's words the compositions, experts and aliases that the key may use."""
    services: NodeServices = request.app.services
    shown = permitted(request)
    return JSONResponse({"models": await asyncio.to_thread(listed, shown, services)})


@router.get("/ps")
async def ps(request: Request) -> Response:
    """List in Ollama's words the experts on the device that the key may use, and when they leave unused."""
    services: NodeServices = request.app.services
    shown = {entry["id"]: entry for entry in permitted(request)}
    stays = services.tiers.stays()
    status = [each for each in services.tiers.status() if each.tier == "device" and each.expert in shown]
    models = await asyncio.to_thread(listed, [shown[each.expert] for each in status], services)
    now = datetime.now(UTC)
    return JSONResponse(
        {
            "models": [
                model
                | {
                    "expires_at": time_of(now + timedelta(seconds=max(0.0, stays[each.expert])))
                    if each.expert in stays
                    else time_of(now + _STAYS),
                    "size_vram": each.device_bytes,
                    "context_length": shown[each.expert]["coe"]["context_length"],
                }
                for model, each in zip(models, status, strict=True)
            ]
        }
    )


@router.post("/show", openapi_extra=body_schema(ShowSent, required=True))
async def show(request: Request) -> Response:
    """Say in Ollama's words what is known of a model: its template, its context, what it takes."""
    services: NodeServices = request.app.services
    sent = await read_model(request, ShowSent)
    entry = await entry_of(request, model_named(sent.model, services.catalog.aliases))
    return JSONResponse(await asyncio.to_thread(shown_whole, entry, services))


@router.post("/pull", include_in_schema=False)
@router.post("/push", include_in_schema=False)
@router.post("/create", include_in_schema=False)
@router.post("/copy", include_in_schema=False)
@router.delete("/delete", include_in_schema=False)
@router.post("/blobs/{digest}", include_in_schema=False)
async def refused(request: Request) -> Response:
    """Refuse to change which models there are. Raises NotSpoken."""
    raise NotSpoken(
        "Models are not pulled, pushed, created, copied or deleted here: the operator's configuration says "
        "which there are, and GET /api/tags lists them."
    )


async def running(request: Request) -> Response:
    """Say what Ollama says to those who look whether it runs, and lead a browser to the page."""
    if "text/html" in request.headers.get("accept", ""):
        return RedirectResponse("/ui", 307)
    return PlainTextResponse("Ollama is running")
