"""``GET /v1/coe/usage``: usage by key. An API key sees its own, operators see all."""

import dataclasses
from typing import Annotated

from fastapi import APIRouter, Depends, Request

from server.access.auth import authorization_of, check_operator, is_operator
from server.access.usage import Usage, UsageQuery, day_of
from server.errors import BadRequest
from server.services import NodeServices

router = APIRouter(prefix="/v1/coe")
admin_router = APIRouter(prefix="/v1/coe")
"""Routes of the operators' own listener."""


def _usage_query(
    since: str | None = None, until: str | None = None, key: str | None = None, expert: str | None = None
) -> UsageQuery:
    """Reads the query. Raises BadRequest."""
    return UsageQuery(_day(since, "since"), _day(until, "until"), key, expert)


def _day(text: str | None, param: str) -> int | None:
    try:
        return None if text is None else day_of(text)
    except ValueError as error:
        raise BadRequest(f"'{param}' must be a date such as 2026-01-31.", param) from error


UsageParameters = Annotated[UsageQuery, Depends(_usage_query)]


@router.get("/usage")
async def usage(request: Request, query: UsageParameters) -> Usage:
    """Count requests and tokens by day (UTC), key and expert, from ``since`` to ``until``, both included."""
    services: NodeServices = request.app.services
    config = services.settings.server
    if config.admin_port is not None or not is_operator(request, config):
        own = services.keys.check(authorization_of(request.headers)).name
        query = dataclasses.replace(query, key=own)
    return Usage(rows=tuple(await services.accounts.usage(query)))


@admin_router.get("/usage")
async def all_usage(request: Request, query: UsageParameters) -> Usage:
    """Count the same of every key, or of one."""
    services: NodeServices = request.app.services
    check_operator(request, services.settings.server, services.keys)
    return Usage(rows=tuple(await services.accounts.usage(query)))
