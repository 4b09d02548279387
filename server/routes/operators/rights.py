"""Operators' right to what their paths show and order."""

import logging
from typing import Annotated

from fastapi import Depends, Request

from server.access.auth import check_operator, is_operator
from server.log_fields import with_fields
from server.services import NodeServices


async def operators(request: Request) -> NodeServices:
    """Checks that an operator asks, and returns the services. Raises Unauthorized, Forbidden."""
    services: NodeServices = request.app.services
    check_operator(request, services.settings.server, services.keys)
    return services


log = logging.getLogger("coe.orders")


def note_order(request: Request, services: NodeServices, order: str, **about: str) -> None:
    """Logs an order that was taken, and who gave it: by which right, from where. ``about``: what
    it is for."""
    by = "admin_key" if is_operator(request, services.settings.server) else "this_machine"
    fields = {"order": order, **about, "by": by, "peer": request.client.host if request.client else "-"}
    text = " ".join(f"{name}={value[:100]!r}" for name, value in fields.items())
    log.info("%s", text, extra=with_fields(lambda: fields))


ForOperators = Annotated[NodeServices, Depends(operators)]
