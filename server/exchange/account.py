"""The one account of a request: settled with its key, counted, recorded for feedback, and logged."""

import logging
import time

from server.access.admission import Admission
from server.access.token_estimate import NO_TOKENS, TokenEstimate
from server.exchange.arrival import Caller
from server.exchange.destination import StreamedAnswer
from server.exchange.token_counter import TokenCounter
from server.feedback.recorder import Recorded
from server.model_request import ModelRequest
from server.routing.routing import Route
from server.services import Services

log = logging.getLogger("coe.requests")


class Account:
    """Account of one request: its identity and its usage so far. ``close`` it once, however the request
    ends."""

    __slots__ = (
        "_began",
        "_peer",
        "_recorded",
        "_services",
        "admission",
        "expert",
        "model",
        "request_id",
        "tokens",
    )

    def __init__(self, services: Services, request_id: str, peer: str) -> None:
        """``peer``: the client's address; a hyphen if there is none."""
        self._services = services
        self._began = time.monotonic()
        self._recorded: Recorded | None = None
        self._peer = peer
        self.request_id = request_id
        self.admission: Admission | None = None  # until its key is known
        self.model = ""
        self.expert = ""
        self.tokens = TokenCounter()

    def __repr__(self) -> str:
        return f"<Account {self.request_id} model={self.model!r} expert={self.expert or '-'} {self.tokens!r}>"

    @property
    def seconds(self) -> float:
        """Returns the seconds since the request came."""
        return time.monotonic() - self._began

    async def enter(self, request: ModelRequest, *, computes: bool) -> None:
        """Reserves what ``request`` may use of its key's limits; ``computes``: whether an expert computes for
        it. Raises UnknownModel, OverLimit."""
        assert self.admission is not None, "its key is known"
        estimate = await TokenEstimate.of(request, self._services.workers) if computes else NO_TOKENS
        self.admission.enter(self._services.catalog.aliases.names_of(request.sent_model), estimate)

    def counted(self, answer: bytes | StreamedAnswer) -> bytes | StreamedAnswer:
        """Returns ``answer``, which the gateway gives by itself, and counts the tokens that it reports."""
        return self.tokens.whole(answer) if isinstance(answer, bytes) else answer

    def first_bytes(self) -> None:
        """Notes that the engine has begun to answer."""
        self._services.metrics.first_bytes(self.expert, self.seconds)

    def remember(self, route: Route, caller: Caller) -> None:
        """Records the routing decision, so that feedback can be about it."""
        feedback = self._services.feedback
        if route.decision is not None and feedback is not None:
            self._recorded = feedback.decided(self.request_id, caller.owner, route.composition, route)

    def handed_over(self) -> "Account":
        """Opens the account of the work that goes on for this request. The reservation is settled there."""
        other = Account(self._services, self.request_id, self._peer)
        other.model = self.model
        other.admission, self.admission = self.admission, None
        return other

    def close(self, status: int, *, stayed: bool) -> None:
        """Settles the request. ``stayed``: whether the client was there to the end."""
        outcome, seconds = str(status) if stayed else "client_left", self.seconds
        if self.admission is not None:
            self.admission.settle(self.expert, self.tokens.spent, failed=status >= 400)
        self._services.metrics.request_done(self.expert, outcome, seconds)
        if self._recorded is not None:
            self._recorded.ended(outcome)
        log.info(
            "%s model=%.100r expert=%s outcome=%s seconds=%.3f key=%s peer=%.50r",
            self.request_id,
            self.model,
            self.expert or "-",
            outcome,
            seconds,
            "-" if self.admission is None else self.admission.key.name,
            self._peer,
        )
