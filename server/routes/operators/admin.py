"""Paths by which operators see and order, under ``/v1/coe``. Orders are answered, then carried out."""

import difflib
from collections.abc import Callable

from fastapi import APIRouter, Request

from memory_tiers.driver.manager import TierManager
from memory_tiers.driver.operator_orders import OperatorOrders
from memory_tiers.status import ExpertStatus
from server.errors import UnknownModel
from server.operator_api import Demotion, Destination, Reloaded, Snapshot, Verb
from server.reload.reload import Reload
from server.routes.operators.rights import ForOperators, note_order
from server.services import NodeServices
from server.transport.json_body import body_schema, read_model

router = APIRouter(prefix="/v1/coe")


@router.get("/tiers")
async def tiers(services: ForOperators) -> Snapshot:
    """Show tiers, engines, experts and moves, all at one moment."""
    tiers = services.tiers
    return Snapshot(
        tiers=tiers.usage(),
        engines=tiers.readiness.engines,
        experts=tiers.status(),
        moves=tiers.progress(),
    )


@router.post("/reload")
async def reload(request: Request, services: ForOperators) -> Reloaded:
    """Read the configuration again and serve all of it, or nothing of it."""
    reload: Reload = request.app.state.reload
    reloaded = await reload.now()
    note_order(request, services, "reload")
    return reloaded


@router.post("/experts/{name:path}/load", status_code=202)
async def load(name: str, services: ForOperators, request: Request) -> ExpertStatus:
    """Bring the expert to the device, as a request for it would."""
    return _ordered(request, services, "load", name, lambda orders: orders.move(name, "device"))


@router.post(
    "/experts/{name:path}/demote", status_code=202, openapi_extra=body_schema(Demotion, required=False)
)
async def demote(name: str, services: ForOperators, request: Request) -> ExpertStatus:
    """Take the expert down to ``host`` or ``disk`` once no request uses it."""
    order = await read_model(request, Demotion)
    return _ordered(
        request, services, "demote", name, lambda orders: orders.move(name, order.tier), tier=order.tier
    )


@router.post(
    "/experts/{name:path}/move", status_code=202, openapi_extra=body_schema(Destination, required=True)
)
async def move(name: str, services: ForOperators, request: Request) -> ExpertStatus:
    """Bring the expert up or down to a tier."""
    order = await read_model(request, Destination)
    return _ordered(
        request, services, "move", name, lambda orders: orders.move(name, order.tier), tier=order.tier
    )


@router.post("/experts/{name:path}/pin", status_code=202)
async def pin(name: str, services: ForOperators, request: Request) -> ExpertStatus:
    """Bring the expert to the device and keep it there."""
    return _ordered(request, services, "pin", name, lambda orders: orders.pin(name, True))


@router.post("/experts/{name:path}/unpin", status_code=202)
async def unpin(name: str, services: ForOperators, request: Request) -> ExpertStatus:
    """Let the expert make room for others again."""
    return _ordered(request, services, "unpin", name, lambda orders: orders.pin(name, False))


@router.post("/experts/{name:path}/cancel", status_code=202)
async def cancel(name: str, services: ForOperators, request: Request) -> ExpertStatus:
    """End the expert's load and reject the requests that wait for it."""
    return _ordered(request, services, "cancel", name, lambda orders: orders.cancel_load(name))


def _ordered(
    request: Request,
    services: NodeServices,
    verb: Verb,
    name: str,
    order: Callable[[OperatorOrders], None],
    **about: str,
) -> ExpertStatus:
    """Returns the expert's status after ``order``. Raises UnknownModel, OrderRefused, BudgetTooSmall."""
    _known(services.tiers, name)
    order(services.tiers.orders)
    note_order(request, services, verb, expert=name, **about)
    return _known(services.tiers, name)


def _known(tiers: TierManager, name: str) -> ExpertStatus:
    """Returns the expert's status. Raises UnknownModel."""
    statuses = {status.expert: status for status in tiers.status()}
    if name in statuses:
        return statuses[name]
    close = difflib.get_close_matches(name, statuses, n=1)
    hint = f"Did you mean {close[0]!r}?" if close else f"Experts: {', '.join(statuses)}."
    raise UnknownModel(f"There is no expert {name[:100]!r}. {hint}")
