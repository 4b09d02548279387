"""Paths for monitoring: whether the gateway is ready, and its metrics."""

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse, PlainTextResponse, Response

from server.access.auth import check_metrics
from server.errors import ShuttingDown
from server.services import NodeServices
from server.transport.admission_gate import LATER

router = APIRouter()


@router.get("/ready", responses={503: {"description": "The state of each engine that is not."}})
async def ready(request: Request) -> Response:
    """Say whether a request would reach every engine now: 200, or 503 with the state of each."""
    services: NodeServices = request.app.services
    if services.draining:
        raise ShuttingDown(LATER)
    problems = await services.problems()
    body = {"status": "unavailable", "engines": problems} if problems else {"status": "ready"}
    return JSONResponse(body, 503 if problems else 200)


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Give the metrics as Prometheus' text."""
    services: NodeServices = request.app.services
    check_metrics(request, services.settings.server)
    return Response(await services.scrape(), media_type=CONTENT_TYPE_LATEST)
