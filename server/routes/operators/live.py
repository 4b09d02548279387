"""Paths by which operators watch a gateway, under ``/v1/coe``: its state, changes, stories and figures."""

from typing import Any

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server.errors import Conflict, UnknownRequest
from server.live.feed import Feed
from server.live.story_view import story_of
from server.observation.story import Story
from server.routes.operators.rights import ForOperators, note_order
from server.services import NodeServices
from server.transport.admission_gate import ADMISSION_GATE, AdmissionGate
from server.transport.disconnect import DISCONNECT, Disconnect, while_connected
from server.transport.streaming import SSE_HEADERS, send_end, send_part, send_start

router = APIRouter(prefix="/v1/coe")
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Events snapshot, delta, sample and still.", "content": {"text/event-stream": {}}}
}


@router.get("/snapshot")
async def snapshot(services: ForOperators, request: Request) -> Response:
    """Show tiers, engines, experts, moves and requests, all at one moment."""
    feed: Feed = request.app.state.feed
    return Response(await feed.state(), media_type="application/json")


@router.get("/events", response_class=Response, responses=_EVENTS)
async def events(services: ForOperators, request: Request) -> Response:
    """Stream the same, then what changes. A client that does not read is cut off."""
    return EventStream(request.app.state.feed)


@router.get("/history")
async def history(services: ForOperators) -> Response:
    """Give the figures of the last hour, a sample for each 5 s."""
    samples = list(services.observer.figures)
    return Response(orjson.dumps({"samples": samples}), media_type="application/json")


@router.get("/requests/{id:path}")
async def story(id: str, services: ForOperators) -> Response:
    """Tell a request's story. ``id``: its answer's header x-request-id."""
    found = _found(services, id)
    expert = services.experts.get(found.expert)
    told = story_of(found, services.observer, "" if expert is None else expert.family)
    return Response(orjson.dumps(told), media_type="application/json")


@router.delete("/requests/{id:path}", status_code=202)
async def cancel(id: str, services: ForOperators, request: Request) -> dict[str, str]:
    """End a request that is under way. Its client is told so."""
    found = _found(services, id)
    if found.cancel is None:
        raise Conflict("This request has ended, or is ending.")
    found.cancel()
    note_order(request, services, "cancel", request_id=found.id)
    return {"id": found.id, "state": "cancelled"}


def _found(services: NodeServices, id: str) -> Story:
    """Returns the latest story with this id. Raises UnknownRequest."""
    found = services.observer.stories.find(id)
    if found is None:
        raise UnknownRequest(
            "No request with this id, the answer's header x-request-id, is under way or kept; of those that "
            f"have ended, the latest {services.settings.observation.requests} are "
            "(observation.requests).",
            "id",
        )
    return found


class EventStream(Response):
    """The feed as server-sent events, until its client leaves or this listener drains."""

    def __init__(self, feed: Feed) -> None:
        super().__init__()
        self._feed = feed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        disconnect: Disconnect = scope[DISCONNECT]
        gate: AdmissionGate = scope[ADMISSION_GATE]
        await while_connected(self._stream(send, disconnect, gate), disconnect)

    async def _stream(self, send: Send, disconnect: Disconnect, gate: AdmissionGate) -> None:
        with self._feed.listening(disconnect.cut, lambda: gate.draining) as listener:
            await send_start(send, 200, SSE_HEADERS)
            async for message in listener.messages():
                await send_part(send, message)
            await send_end(send)
