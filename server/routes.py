"""What the gateway answers by itself: models, health, readiness, metrics."""

from typing import Any

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse, Response

from server.errors import UnknownModel
from server.services import Services

router = APIRouter()


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


@router.get("/v1/models")
async def models(request: Request) -> Response:
    """OpenAI's list: the compositions, then the experts, with their tier under ``coe``."""
    services = _services(request)
    services.keys.check(request.headers.get("authorization"))
    return JSONResponse({"object": "list", "data": _models(services)})


@router.get("/v1/models/{name}")
async def model(request: Request, name: str) -> Response:
    """One model of the list."""
    services = _services(request)
    services.keys.check(request.headers.get("authorization"))
    for entry in _models(services):
        if entry["id"] == name:
            return JSONResponse(entry)
    raise UnknownModel(
        f"The model {name[:100]!r} does not exist; GET /v1/models lists those that do.", "model"
    )


def _models(services: Services) -> list[dict[str, Any]]:
    def entry(name: str, detail: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": name,
            "object": "model",
            "created": services.started,
            "owned_by": "composition-of-experts",
            "coe": detail,
        }

    compositions = [
        entry(name, {"kind": "composition", "description": composition.description})
        for name, composition in services.settings.compositions.items()
    ]
    experts = [
        entry(
            status.expert,
            {
                "kind": "expert",
                "description": services.experts[status.expert].description,
                "parameters": services.experts[status.expert].parameters,
                "family": services.experts[status.expert].family,
                "context_length": services.settings.families[
                    services.experts[status.expert].family
                ].max_model_len,
                "tier": status.tier,
                "loading": status.loading,
            },
        )
        for status in services.tiers.status()
    ]
    return compositions + experts


@router.get("/health")
async def health() -> Response:
    """Whether the gateway process answers."""
    return JSONResponse({"status": "ok"})


@router.get("/ready")
async def ready(request: Request) -> Response:
    """Whether a request would reach every engine now: 200, or 503 with the state of each."""
    problems = await _services(request).problems()
    body = {"status": "unavailable", "engines": problems} if problems else {"status": "ready"}
    return JSONResponse(body, 503 if problems else 200)


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Prometheus text."""
    services = _services(request)
    return Response(await services.scrape(), media_type=CONTENT_TYPE_LATEST)
