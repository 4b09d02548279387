"""Kept responses: retrieved, cancelled, deleted, and what they were asked."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from server.access.auth import authorization_of
from server.access.owner import owner_of
from server.error_table import failure_of
from server.errors import BadRequest, EventsGone
from server.responses.kept.event_journal import Following
from server.responses.kept.store import KeptResponse
from server.responses.kept.stored_responses import StoredResponses
from server.responses.wire.events import error_event
from server.responses.wire.items import Item
from server.services import NodeServices
from server.transport.streaming import SSE_HEADERS

router = APIRouter()


@router.get("/v1/responses/{response_id}")
async def retrieve(
    request: Request,
    response_id: str,
    stream: bool = False,
    starting_after: Annotated[int | None, Query(ge=0)] = None,
) -> Response:
    """Read a response that this key made. With ``stream``, the events of one that was streamed from the
    background: all, or those ``starting_after`` a number, and the ones to come."""
    stored, owner = _asking(request)
    kept = await stored.kept.find(owner, response_id)
    if not stream:
        return JSONResponse(kept.response)
    number = 0 if starting_after is None else starting_after + 1
    following = Following(stored.journals.find(response_id), number)
    return StreamingResponse(_events(following), headers=SSE_HEADERS)


@router.post("/v1/responses/{response_id}/cancel")
async def cancel(request: Request, response_id: str) -> Response:
    """End a response that is made in the background; one that has ended stays as it is. Any other is
    cancelled by closing its connection."""
    stored, owner = _asking(request)
    return JSONResponse((await stored.cancel(owner, response_id)).response)


@router.delete("/v1/responses/{response_id}")
async def delete(request: Request, response_id: str) -> Response:
    """Delete a response for good, and end it first if it is being made. No conversation goes on from it."""
    stored, owner = _asking(request)
    await stored.delete(owner, response_id)
    return JSONResponse({"id": response_id, "object": "response", "deleted": True})


@router.get("/v1/responses/{response_id}/input_items")
async def list_input_items(
    request: Request,
    response_id: str,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
    after: str | None = None,
) -> Response:
    """List a response's own input, without that of the responses before it."""
    stored, owner = _asking(request)
    items = _shown(await stored.kept.find(owner, response_id))
    if order == "desc":
        items.reverse()
    ids = [item["id"] for item in items]
    if after is not None:
        if after not in ids:
            raise BadRequest(f"'after' names no item of {response_id!r}.", "after")
        items = items[ids.index(after) + 1 :]
    page = items[:limit]
    first, last = (page[0]["id"], page[-1]["id"]) if page else ("", "")
    more = {"first_id": first, "last_id": last, "has_more": len(items) > len(page)}
    return JSONResponse({"object": "list", "data": page, **more})


async def _events(following: Following) -> AsyncIterator[bytes]:
    try:
        async for events in following.events():
            yield events
    except EventsGone as error:
        yield error_event(failure_of(error), following.next)


def _asking(request: Request) -> tuple[StoredResponses, str]:
    """Returns the stored responses, and the owner that asks for them. Raises Unauthorized."""
    services: NodeServices = request.app.services
    key = services.keys.check(authorization_of(request.headers))
    return request.app.state.responses, owner_of(key, request.headers)


_PREFIX = {
    "message": "msg",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "reasoning": "rs",
}


def _shown(kept: KeptResponse) -> list[dict[str, Any]]:
    """Returns the response's input items, each with an id: the client's own, or one that is always the
    same."""

    def shown(item: Item, position: int) -> dict[str, Any]:
        own = f"{_PREFIX[item['type']]}_{kept.id.removeprefix('resp_')}i{position:04x}"
        return {"id": own, **item}

    return [shown(item, position) for position, item in enumerate(kept.input)]
