"""Pages of lists, as OpenAI's API words them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from starlette.requests import Request

from server.access.auth import authorization_of
from server.access.owner import owner_of
from server.batches.service import Batches
from server.batches.store import PageQuery
from server.errors import BadRequest, BatchesOff
from server.services import NodeServices


def page_query(request: Request, *, most: int, default: int) -> PageQuery:
    """Reads the query's ``limit``, ``after``, ``order`` and ``purpose``. Raises BadRequest."""
    query = request.query_params
    limit, order = query.get("limit", str(default)), query.get("order", "desc")
    if not limit.isdecimal() or not 1 <= int(limit) <= most:
        raise BadRequest(f"'limit' must be a number from 1 to {most}.", "limit")
    if order not in ("asc", "desc"):
        raise BadRequest("'order' must be asc or desc.", "order")
    known = cast(Literal["asc", "desc"], order)
    return PageQuery(int(limit), query.get("after"), known, query.get("purpose"))


def listed(entries: Sequence[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    return {
        "object": "list",
        "data": [*entries],
        "first_id": entries[0]["id"] if entries else None,
        "last_id": entries[-1]["id"] if entries else None,
        "has_more": has_more,
    }


@dataclass(frozen=True, slots=True)
class Owner:
    """Owner of files and batches. ``id``: see ``owner_of``. ``key``: the name of its key, by which it is
    counted."""

    id: str
    key: str
    batches: Batches

    @classmethod
    def of(cls, request: Request) -> "Owner":
        """Returns the owner of a request. Raises Unauthorized, BatchesOff."""
        services: NodeServices = request.app.services
        key = services.keys.check(authorization_of(request.headers))
        batches: Batches | None = request.app.state.batches
        if batches is None:
            raise BatchesOff(
                "No files and batches are taken here: the configuration has no section 'batches'."
            )
        return cls(owner_of(key, request.headers), key.name, batches)
