"""Operators' right to what their paths show and order."""

from typing import Annotated

from fastapi import Depends, Request

from server.access.auth import check_operator
from server.services import Services


async def operators(request: Request) -> Services:
    """Checks that an operator asks, and returns the services. Raises Unauthorized, Forbidden."""
    services: Services = request.app.state.services
    check_operator(request, services.settings.server, services.keys)
    return services


ForOperators = Annotated[Services, Depends(operators)]
