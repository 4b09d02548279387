"""Requests that come over HTTP, and their answers on the same connection."""

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from memory_tiers.events import Priority
from memory_tiers.lease import Lease
from server.access.auth import authorization_of
from server.config.api_keys import PRIORITIES
from server.error_table import Failure
from server.errors import BadRequest
from server.exchange.across_nodes import open_here, open_on_some_node
from server.exchange.arrival import Caller, Terms
from server.exchange.destination import Wording
from server.exchange.endpoint import Endpoint
from server.exchange.engine.call import EngineRequest, OpenAnswer
from server.exchange.exchange import Exchange
from server.model_request import ModelRequest
from server.resilience.timeouts import Timeouts
from server.routing.routing import Routed
from server.services import Services
from server.transport.body_limits import read_json
from server.transport.disconnect import DISCONNECT
from server.transport.request_id import REQUEST_ID
from server.transport.streaming import send_end, send_part, send_start


class ModelResponse(Response):
    """The answer of a model to a request: made when it is sent, from its first header to its last byte."""

    background = None
    status_code = 200

    def __init__(self, request: Request, endpoint: Endpoint) -> None:
        """Makes no headers and no body, as starlette's does: they are known when the answer begins."""
        self._request = request
        self._endpoint = endpoint
        self.raw_headers = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        services: Services = self._request.app.services
        arrival, connection = HttpArrival(self._request, services), HttpDestination(send)
        await Exchange(services, self._endpoint, arrival, connection).run(scope[DISCONNECT])


class HttpArrival:
    """Implements ``server.exchange.arrival.Arrival``."""

    offline = False

    def __init__(self, request: Request, services: Services) -> None:
        self.request_id: str = request.scope[REQUEST_ID]  # the connection puts it into the answer's headers
        self.path: str = request.scope["path"]
        client = request.scope.get("client")
        self.peer: str = client[0] if client else "-"
        self._request = request
        self._headers = request.headers
        self._services = services

    def caller(self) -> Caller:
        key = self._services.keys.check(authorization_of(self._headers))
        return Caller(self.request_id, key, self._headers, aliases=self._services.catalog.aliases)

    def body(self) -> Awaitable[bytes]:
        return read_json(self._request, self._services.settings.server, self._services.workers.count)

    def terms(self, caller: Caller) -> Terms:
        return Terms(
            timeouts=Timeouts.of(self._headers, self._services.settings.server),
            priority=caller.key.priority_of(_priority(self._headers)),
            fail_fast=self._headers.get("x-coe-fail-fast", "").lower() in ("1", "true"),
        )

    def check(self, caller: Caller, request: ModelRequest) -> None:
        """Checks nothing: HTTP takes all that an endpoint takes."""

    def route(self, request: ModelRequest) -> Awaitable[Routed]:
        return self._services.route(request, self._headers.get("x-coe-category"))

    def open(
        self, sent: EngineRequest, terms: Terms, leased: Callable[[Lease], None], *, whole: bool
    ) -> Awaitable[OpenAnswer]:
        opened = open_here if self._services.peers is None else open_on_some_node
        return opened(self._services, sent, terms, leased, whole=whole)


class HttpDestination:
    """Implements ``server.exchange.destination.Destination``: the client that asked."""

    __slots__ = ("_send", "status")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0

    async def whole(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        length = {"content-type": "application/json", "content-length": str(len(body))}
        await send_start(self._send, status, {**headers, **length})
        self.status = status
        await send_end(self._send, body)

    async def start_stream(self, headers: Mapping[str, str]) -> None:
        if not self.status:
            await send_start(self._send, 200, headers)
            self.status = 200

    def part(self, chunk: bytes) -> Awaitable[None]:
        return send_part(self._send, chunk)

    def end(self) -> Awaitable[None]:
        return send_end(self._send)

    async def fail(self, failure: Failure, wording: Wording, headers: Mapping[str, str]) -> None:
        if self.status:  # headers are out: the stream says it and ends
            self.status = failure.status
            await send_end(self._send, wording.event(failure))
        else:
            await self.whole(failure.status, wording.body(failure), headers)


def _priority(headers: Mapping[str, str]) -> Priority | None:
    """Returns the priority that the client asks for; None: none. Raises BadRequest."""
    given = headers.get("x-coe-priority")
    if given is None:
        return None
    for priority in PRIORITIES:
        if given.lower() == priority:
            return priority
    raise BadRequest(f"x-coe-priority is {given[:100]!r}; it may be {', '.join(PRIORITIES)}.")
