"""How a request came: over HTTP or as a line of a batch, whose it is, and on what terms it is answered."""

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, Protocol

from memory_tiers.events import Priority
from memory_tiers.lease import Lease
from server.access.owner import owner_of
from server.config.aliases import NO_ALIASES, Aliases
from server.config.api_keys import Key
from server.exchange.engine.call import EngineRequest, OpenAnswer
from server.model_request import ModelRequest
from server.resilience.timeouts import Timeouts
from server.routing.routing import Routed


class Caller(NamedTuple):
    """Whose request it is. ``headers``: what its client said beside the body; ``known_owner``: the owner of
    a request that comes without its client's key; ``aliases``: those in force."""

    request_id: str
    key: Key
    headers: Mapping[str, str]
    known_owner: str = ""
    aliases: Aliases = NO_ALIASES

    @property
    def owner(self) -> str:
        return self.known_owner or owner_of(self.key, self.headers)

    def asks(self, request: ModelRequest) -> ModelRequest:
        """``request`` in the name of the caller's key, and for the model that its alias stands for."""
        model = self.aliases.model_of(request.model)
        if model is None:
            return request.asked_by(self.key.name)
        return request._replace(asker=self.key.name, model=model, alias=request.model)


class Terms(NamedTuple):
    """How long a request waits for an expert, and before whom. ``fail_fast``: not for a load."""

    timeouts: Timeouts
    priority: Priority
    fail_fast: bool


class Arrival(Protocol):
    """One request from where it came. ``offline``: no client waits, so of its key's limits only the day's
    tokens hold."""

    request_id: str
    path: str
    """Path that it was sent to."""
    peer: str
    """Address of the client that asks; a hyphen where none does."""
    offline: bool

    def caller(self) -> Caller:
        """Raises Unauthorized."""
        ...

    def body(self) -> Awaitable[bytes]:
        """Raises BadRequest, TooLarge, Overloaded, ClientDisconnect."""
        ...

    def terms(self, caller: Caller) -> Terms:
        """Raises BadRequest."""
        ...

    def check(self, caller: Caller, request: ModelRequest) -> None:
        """Refuses what cannot be asked in this way. Raises BadRequest, UnknownModel."""
        ...

    def route(self, request: ModelRequest) -> Awaitable[Routed]:
        """Raises what ``Services.route`` does."""
        ...

    def open(
        self, sent: EngineRequest, terms: Terms, leased: Callable[[Lease], None], *, whole: bool
    ) -> Awaitable[OpenAnswer]:
        """Leases the expert of ``sent`` and waits for the first bytes of its answer, or for all if ``whole``.
        ``leased``: told of each lease. Raises BreakerOpen, LeaseRejected, EngineError."""
        ...
