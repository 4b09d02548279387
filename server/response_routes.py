"""Kept responses: retrieved, cancelled, deleted, and what they were asked."""

from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, Response

from server.auth import authorization_of
from server.errors import BadRequest, NotCapable
from server.owner import owner_of
from server.response_items import Item
from server.response_store import KeptResponse, ended
from server.services import Services

router = APIRouter()


@router.get("/v1/responses/{response_id}")
async def retrieve(request: Request, response_id: str) -> Response:
    """One that this key made."""
    services, owner = _asking(request)
    if request.query_params.get("stream", "").lower() in ("true", "1"):
        raise NotCapable("A kept response is not streamed again: leave out 'stream'.", "stream")
    kept = await services.responses.find(owner, response_id)
    return JSONResponse(kept.response)


@router.post("/v1/responses/{response_id}/cancel")
async def cancel(request: Request, response_id: str) -> Response:
    """One made in the background; another is cancelled by closing its connection. One that has ended stays as
    it is."""
    services, owner = _asking(request)
    kept = await services.responses.find(owner, response_id)
    if not kept.response["background"]:
        raise BadRequest("Only a response made with 'background' true is cancelled.")
    if kept.running:
        await services.background.cancel(response_id)
        kept = await services.responses.find(owner, response_id)
    if kept.running:
        kept = replace(kept, response=ended(kept.response, "cancelled"))
        await services.responses.keep(kept)
    return JSONResponse(kept.response)


@router.delete("/v1/responses/{response_id}")
async def delete(request: Request, response_id: str) -> Response:
    """For ever. If it is being made, that ends. No conversation goes on from it any more."""
    services, owner = _asking(request)
    kept = await services.responses.find(owner, response_id)
    if kept.running:
        await services.background.cancel(response_id)
    await services.responses.delete(owner, response_id)
    return JSONResponse({"id": response_id, "object": "response", "deleted": True})


@router.get("/v1/responses/{response_id}/input_items")
async def list_input_items(
    request: Request,
    response_id: str,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
    after: str | None = None,
) -> Response:
    """Its own; those of the responses before it are theirs."""
    services, owner = _asking(request)
    items = _shown(await services.responses.find(owner, response_id))
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


def _asking(request: Request) -> tuple[Services, str]:
    """And whose responses are asked for. Raises Unauthorized."""
    services: Services = request.app.state.services
    key = services.keys.check(authorization_of(request.headers))
    return services, owner_of(key, request.headers)


_PREFIX = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}


def _shown(kept: KeptResponse) -> list[dict[str, Any]]:
    """Its input items, each with an id: the client's own, or one that is always the same."""

    def shown(item: Item, position: int) -> dict[str, Any]:
        own = f"{_PREFIX[item['type']]}_{kept.id.removeprefix('resp_')}i{position:04x}"
        return {"id": own, **item}

    return [shown(item, position) for position, item in enumerate(kept.input)]
