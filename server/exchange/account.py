"""The one account of a request: settled with its key, counted, recorded for feedback, and logged."""

import logging
from collections.abc import Mapping

from experts.engines.engine import NO_HEADERS
from memory_tiers.lease import Lease
from server.access.admission import Admission
from server.access.token_estimate import NO_TOKENS, TokenEstimate
from server.exchange.answer.token_counter import TokenCounter
from server.exchange.arrival import Caller
from server.exchange.destination import StreamedAnswer
from server.feedback.recorder import Kept
from server.log_fields import with_fields
from server.model_request import ModelRequest
from server.routing.routing import Route
from server.services import Services
from server.tracing.traces import RequestTrace

log = logging.getLogger("coe.requests")

SHOWN = 4000
"""Characters of a prompt that its story has, where it has them."""


class Account:
    """Account of one request: its identity and its usage so far. ``close`` it once, however the request
    ends."""

    __slots__ = (
        "_recorded",
        "_services",
        "admission",
        "story",
        "tokens",
        "trace",
    )

    def __init__(self, services: Services, request_id: str, path: str, peer: str) -> None:
        """``path``: what the request was sent to. ``peer``: the client's address; a hyphen if there is
        none."""
        self._services = services
        self._recorded: Kept | None = None
        self.trace: RequestTrace | None = None
        self.admission: Admission | None = None  # until its key is known
        self.tokens = TokenCounter()
        self.story = services.observer.stories.begin(request_id, path, peer, self.tokens)

    def __repr__(self) -> str:
        story = self.story
        return f"<Account {story.id} model={story.model!r} expert={story.expert or '-'} {self.tokens!r}>"

    @property
    def request_id(self) -> str:
        return self.story.id

    @property
    def seconds(self) -> float:
        """Returns the seconds since the request came."""
        return self._services.observer.clock() - self.story.started

    def known(self, admission: Admission, headers: Mapping[str, str]) -> None:
        """Notes whose request it is. ``headers``: those that may name the trace that it is part of."""
        self.admission = admission
        self.story.key = admission.key.name
        if self._services.traces is not None:
            self.trace = self._services.traces.begin(self.story, headers)

    def trace_headers(self) -> Mapping[str, str]:
        """Returns the headers that name the request's trace to an engine."""
        return NO_HEADERS if self.trace is None else self.trace.headers()

    def read(self, request: ModelRequest) -> None:
        """Notes what is asked, which is to be routed next."""
        self.story.model, self.story.stream = request.sent_model, request.stream
        if self._services.settings.observation.prompts:
            self.story.prompt = beginning_of(request)

    async def enter(self, request: ModelRequest, *, computes: bool) -> None:
        """Reserves what ``request`` may use of its key's limits; ``computes``: whether an expert computes for
        it. Raises UnknownModel, OverLimit."""
        assert self.admission is not None, "its key is known"
        estimate = await TokenEstimate.of(request, self._services.workers) if computes else NO_TOKENS
        await self.admission.enter(self._services.catalog.aliases.names_of(request.sent_model), estimate)

    def counted(self, answer: bytes | StreamedAnswer) -> bytes | StreamedAnswer:
        """Returns ``answer``, which the gateway gives by itself, and counts the tokens that it reports."""
        return self.tokens.whole(answer) if isinstance(answer, bytes) else answer

    def routing(self) -> None:
        """Notes that the request was let in and is routed now."""
        self.story.route_at = self._services.observer.clock()

    def routed(self, route: Route) -> None:
        """Notes the route that is tried now."""
        self.story.routed(route, self._services.observer.clock())

    def leased(self, lease: Lease) -> None:
        """Notes a lease that was granted just now."""
        self.story.leased(lease, self._services.observer.clock())

    def first_bytes(self) -> None:
        """Notes that the engine has begun to answer."""
        story = self.story
        story.first_at = self._services.observer.clock()
        self._services.metrics.first_bytes(story.expert, story.first_at - story.started)

    def remember(self, route: Route, caller: Caller) -> None:
        """Records the routing decision, so that feedback can be about it."""
        feedback = self._services.feedback
        if route.decision is not None and feedback is not None:
            self._recorded = feedback.decided(self.story.id, caller.owner, route.composition, route)

    def handed_over(self) -> "Account":
        """Opens the account of the work that goes on for this request. The reservation is settled there."""
        story = self.story
        other = Account(self._services, story.id, story.path, story.peer)
        other.story.model, other.story.key, other.story.prompt = story.model, story.key, story.prompt
        other.story.stream, other.story.trace_id = story.stream, story.trace_id
        other.admission, self.admission = self.admission, None
        other.trace, self.trace = self.trace, None
        return other

    def put_off(self) -> None:
        """Forgets the request, which is answered later with an account of its own, unless it is closed."""
        self._services.observer.stories.drop(self.story)

    def close(self, status: int, *, stayed: bool) -> None:
        """Settles the request. ``stayed``: whether the client was there to the end."""
        outcome, seconds, story = str(status) if stayed else "client_left", self.seconds, self.story
        self._services.observer.stories.end(story, outcome)
        if self.trace is not None:
            self.trace.end(story, self._services.observer)
        if self.admission is not None:
            self.admission.settle(story.expert, self.tokens.spent, failed=status >= 400)
        self._services.metrics.request_done(story.expert, outcome, seconds)
        if self._recorded is not None:
            self._recorded.ended(outcome)
        log.info(
            "%s model=%.100r expert=%s outcome=%s seconds=%.3f key=%s peer=%.50r",
            story.id,
            story.model,
            story.expert or "-",
            outcome,
            seconds,
            story.key or "-",
            story.peer,
            extra=with_fields(self.log_fields),
        )

    def log_fields(self) -> dict[str, object]:
        """Returns what a line of the log says of the request for programs."""
        story = self.story
        fields: dict[str, object] = {
            "request_id": story.id,
            "trace_id": story.trace_id,
            "path": story.path,
            "key": story.key,
            "peer": story.peer,
            "model": story.model,
            "expert": story.expert,
        }
        if story.ended_at is None:
            return fields
        return fields | {
            "outcome": story.outcome,
            "seconds": round(story.ended_at - story.started, 6),
            "phases": {phase.name: round(phase.seconds, 6) for phase in story.phases(story.ended_at)},
            "tier": story.tier,
            "prompt_tokens": story.tokens.prompt_tokens,
            "completion_tokens": story.tokens.completion_tokens,
        }


def beginning_of(request: ModelRequest) -> str:
    """Returns the beginning of the last message with a text."""
    for message in reversed(request.messages):
        content = message.get("content")
        parts = content if isinstance(content, list) else ()
        texts = [part.get("text") for part in parts if isinstance(part, dict)]
        text = (
            content if isinstance(content, str) else " ".join(each for each in texts if isinstance(each, str))
        )
        if text:
            return text[:SHOWN]
    return ""
