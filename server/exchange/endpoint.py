"""The seam between exchanges and endpoints: how an endpoint reads a request and words its answer."""

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any, Protocol

from experts.spec import Expert
from server.access.rate_limits import Remaining
from server.error_table import Failure
from server.exchange.arrival import Caller
from server.exchange.destination import Destination, StreamedAnswer
from server.exchange.engine.call import EngineRequest
from server.model_request import ModelRequest
from server.services import Services

Detach = Callable[["Call", Destination], Coroutine[None, None, None]]
"""Answers a call to another destination, after its client was answered. Takes over the account."""


class Call(Protocol):
    """One request as its endpoint has read it. Immutable."""

    @property
    def request(self) -> ModelRequest: ...

    async def local_answer(self, services: Services, detach: Detach | None) -> bytes | StreamedAnswer | None:
        """Gives the answer if the gateway gives it without an expert. ``detach``: None where no client waits
        that could be answered before the work is done. Raises as ``Endpoint.read`` does."""
        ...

    @property
    def engine_path(self) -> str:
        """Path at which an engine takes the request."""
        ...

    def engine_body(self, expert: Expert) -> dict[str, Any]:
        """Words the request for an engine."""
        ...

    async def whole(self, body: bytes, sent: EngineRequest) -> bytes:
        """Words an engine's whole answer of status 200 to ``sent``. Raises EngineError, BadRequest."""
        ...

    def streamed(self, events: AsyncIterator[bytes], sent: EngineRequest) -> StreamedAnswer:
        """Words an engine's answer of status 200 to ``sent`` as it comes, in whole server-sent events."""
        ...


class Endpoint(Protocol):
    """Stateless, and made once for all requests."""

    expert_independent: bool
    """Whether all experts of a family answer alike, so that any one on the device may answer."""
    stream_headers: Mapping[str, str]
    """Headers of streams."""

    async def read(self, raw: bytes, caller: Caller) -> Call:
        """Reads a request's body. Raises BadRequest naming the field, and others of ``server.errors``."""
        ...

    def headers(self, request_id: str) -> Mapping[str, str]:
        """Headers that every answer has."""
        ...

    def limit_headers(self, remaining: Remaining) -> Mapping[str, str]:
        """Says what is left of the key's limits."""
        ...

    def error_body(self, failure: Failure, request_id: str) -> bytes: ...

    def sign_of_life(self, text: str, request: ModelRequest) -> bytes:
        """Says in a stream that has not begun, and that every reader skips, what ``request`` waits for."""
        ...

    def error_event(self, failure: Failure, request_id: str) -> bytes:
        """Words the last event of a stream that ends before its answer has begun."""
        ...
