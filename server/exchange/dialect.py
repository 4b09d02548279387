"""The seam between the line and the endpoints: how one endpoint words a request and its answer."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

from experts.spec import Expert
from server.access.rate_limits import Remaining
from server.error_table import Failure
from server.model_request import ModelRequest
from server.services import Services


class Dialect(Protocol):
    """One request and its answer, in the words of its endpoint. Made for each request; ``read`` comes first,
    and failures may come before it."""

    engine_path: str
    """Where an engine takes it."""
    any_of_family: bool
    """Whether every expert of the family answers alike: then one that is on the device does."""

    async def read(self, raw: bytes) -> ModelRequest:
        """Raises BadRequest naming the field, and others of ``server.errors``."""
        ...

    async def here(self, request: ModelRequest, services: Services) -> bytes | AsyncIterator[bytes] | None:
        """The answer, whole or as a stream, if the gateway gives it without an expert. Raises as ``read``
        does, and as a stream what ``stream`` does."""
        ...

    def engine_body(self, request: ModelRequest, expert: Expert) -> dict[str, Any]:
        """What goes to the engine."""
        ...

    async def whole(self, body: bytes) -> bytes:
        """An engine's whole answer, of status 200. Raises EngineError, BadRequest."""
        ...

    def stream(self, events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """An engine's answer of status 200 as it comes, in whole server-sent events. Raises what ``events``
        does."""
        ...

    def limit_headers(self, remaining: Remaining) -> Mapping[str, str]:
        """What is left of its key's limits."""
        ...

    def error_body(self, failure: Failure) -> bytes: ...

    def error_event(self, failure: Failure) -> bytes:
        """The last of a stream that cannot go on."""
        ...
