"""Traces of requests and moves: a request's span is begun when its key is known, for its id is sent on to
engines, and has its phases, links to moves, and its metrics when the request's story has ended."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from memory_tiers.observations import MoveDone, Observation
from server.config.observation import ObservationConfig
from server.observation.observer import Observer
from server.observation.story import Story
from server.tracing import names

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, SpanContext

SCOPE = "composition-of-experts"
MOVES = 2000
"""Moves that a request can be linked to: the latest, as many as the observer keeps."""


class Traces:
    """The spans and GenAI metrics of one gateway."""

    def __init__(self, tracers: "TracerProvider", meters: "MeterProvider") -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._providers = (tracers, meters)
        self._tracer = tracers.get_tracer(SCOPE)
        self._propagator = TraceContextTextMapPropagator()
        self._moves: OrderedDict[MoveDone, SpanContext] = OrderedDict()
        histogram = meters.get_meter(SCOPE).create_histogram
        self._seconds, self._first, self._each = (
            histogram(name, "s", explicit_bucket_boundaries_advisory=bounds)
            for name, bounds in (
                (names.REQUEST_SECONDS, names.SECOND_BOUNDS),
                (names.FIRST_TOKEN_SECONDS, names.FIRST_TOKEN_BOUNDS),
                (names.TOKEN_SECONDS, names.TOKEN_SECOND_BOUNDS),
            )
        )
        self._tokens = histogram(
            names.TOKENS, "{token}", explicit_bucket_boundaries_advisory=names.TOKEN_BOUNDS
        )

    def __repr__(self) -> str:
        return f"<Traces [{len(self._moves)} moves]>"

    def begin(self, story: Story, headers: Mapping[str, str]) -> "RequestTrace":
        """Begins the trace of a request, or goes on with the one that its ``headers`` name."""
        from opentelemetry.trace import SpanKind

        context = self._propagator.extract(headers)
        span = self._tracer.start_span(
            names.OPERATIONS.get(story.path, "chat"),
            context,
            SpanKind.SERVER,
            start_time=round(story.came * 1e9),
        )
        story.trace_id = f"{span.get_span_context().trace_id:032x}"
        return RequestTrace(self, span)

    def headers(self, span: "Span") -> dict[str, str]:
        """Returns the headers that name ``span`` to whoever is asked for it."""
        from opentelemetry.trace import set_span_in_context

        carried: dict[str, str] = {}
        self._propagator.inject(carried, set_span_in_context(span))
        return carried

    def observe(self, observation: Observation) -> None:
        """Makes a move that has ended a trace of its own."""
        if not isinstance(observation, MoveDone):
            return
        from opentelemetry.context import Context

        now = time.time()
        span = self._tracer.start_span(
            "move",
            Context(),
            start_time=round((now - observation.seconds) * 1e9),
            attributes=_move(observation),
        )
        if observation.outcome == "failed":
            _fail(span, observation.outcome, observation.detail)
        span.end(round(now * 1e9))
        self._moves[observation] = span.get_span_context()
        while len(self._moves) > MOVES:
            self._moves.popitem(last=False)

    def ended(self, span: "Span", story: Story, moves: Iterable[MoveDone]) -> None:
        """Ends the span of a request whose ``story`` has ended. ``moves``: those that it waited for."""
        self._measure(story)
        if not span.is_recording():
            span.end()
            return
        from opentelemetry.trace import set_span_in_context

        assert story.ended_at is not None, "it has ended"
        operation = names.OPERATIONS.get(story.path, "chat")
        span.update_name(f"{operation} {story.model[:100]}" if story.model else operation)
        span.set_attributes(_request(story))
        if story.outcome[:1] in ("4", "5") or story.outcome == "client_left":
            _fail(span, story.outcome, story.error, ours=story.outcome[:1] == "5")
        for move in moves:
            if move in self._moves:
                span.add_link(self._moves[move])
        inside = set_span_in_context(span)
        for phase in story.phases(story.ended_at):
            begun = story.came + phase.start
            child = self._tracer.start_span(phase.name, inside, start_time=round(begun * 1e9))
            child.end(round((begun + phase.seconds) * 1e9))
        span.end(round((story.came + story.ended_at - story.started) * 1e9))

    def _measure(self, story: Story) -> None:
        if story.ended_at is None or not story.expert:
            return
        about: dict[str, str] = {
            names.OPERATION: names.OPERATIONS.get(story.path, "chat"),
            names.PROVIDER: names.SYSTEM,
            names.REQUEST_MODEL: story.route.composition or story.expert if story.route else story.expert,
            names.RESPONSE_MODEL: story.expert,
        }
        tokens = story.tokens
        failed = {} if story.outcome == "200" else {names.ERROR: story.outcome}
        self._seconds.record(story.ended_at - story.started, about | failed)
        self._tokens.record(tokens.prompt_tokens, about | {names.TOKEN_TYPE: "input"})
        self._tokens.record(tokens.completion_tokens, about | {names.TOKEN_TYPE: "output"})
        if story.first_seconds is not None and story.first_at is not None:
            self._first.record(story.first_seconds, about)
            if tokens.completion_tokens > 1:
                self._each.record((story.ended_at - story.first_at) / (tokens.completion_tokens - 1), about)

    async def close(self) -> None:
        """Sends what is left of spans and metrics at the same time, as long as the exporters' time limits let
        them."""
        await asyncio.gather(*(asyncio.to_thread(provider.shutdown) for provider in self._providers))


class RequestTrace:
    """The span of one request that is under way."""

    __slots__ = ("_span", "_traces")

    def __init__(self, traces: Traces, span: "Span") -> None:
        self._traces, self._span = traces, span

    def __repr__(self) -> str:
        return f"<RequestTrace {self._span.get_span_context().trace_id:032x}>"

    def headers(self) -> dict[str, str]:
        """Returns ``traceparent``, and what belongs to it, for the engine."""
        return self._traces.headers(self._span)

    def end(self, story: Story, observer: Observer) -> None:
        """Ends the span by a ``story`` that has ended, with links to the moves that were for it."""
        begun = story.started if story.route_at is None else story.route_at
        ended = story.started if story.ended_at is None else story.ended_at
        happened = observer.tier_events.during(begun, ended, story.expert, "") if story.expert else []
        moves = [each.event for each in happened if isinstance(each.event, MoveDone)]
        self._traces.ended(self._span, story, moves)


@asynccontextmanager
async def tracing(config: ObservationConfig) -> AsyncIterator[Traces | None]:
    """Makes the traces of a gateway; None where they are off. Leaving sends what is left. Raises
    SettingsError."""
    from server.tracing.providers import providers

    made = providers() if config.opentelemetry else None
    if made is None:
        yield None
        return
    traces = Traces(*made)
    try:
        yield traces
    finally:
        await traces.close()


def _fail(span: "Span", kind: str, message: str, *, ours: bool = True) -> None:
    """Marks a span as failed; not ``ours``: as its client's error, which is none of the server's."""
    from opentelemetry.trace import Status, StatusCode

    span.set_attribute(names.ERROR, kind)
    if ours:
        span.set_status(Status(StatusCode.ERROR, message[:500]))


def _request(story: Story) -> dict[str, str | int | float | bool]:
    """Returns the attributes of a request that has ended; prompts and answers are none of them."""
    tokens, route = story.tokens, story.route
    found: dict[str, str | int | float | bool | None] = {
        names.OPERATION: names.OPERATIONS.get(story.path, "chat"),
        names.PROVIDER: names.SYSTEM,
        names.REQUEST_MODEL: story.model[:200],
        names.REQUEST_STREAM: story.stream,
        names.RESPONSE_MODEL: story.expert,
        names.FIRST_CHUNK: story.first_seconds,
        names.INPUT_TOKENS: tokens.prompt_tokens,
        names.OUTPUT_TOKENS: tokens.completion_tokens,
        names.CACHED_TOKENS: tokens.cached_tokens,
        names.REQUEST_ID: story.id,
        names.KEY: story.key,
        names.TIER: story.tier,
        names.OUTCOME: story.outcome,
    }
    if route is not None:
        found[names.ROUTED_BY] = route.by
        if route.decision is not None:
            found[names.CATEGORY] = route.decision.category
            found[names.CONFIDENCE] = route.decision.confidence
    return {name: value for name, value in found.items() if value is not None and value != ""}


def _move(move: MoveDone) -> dict[str, str | int]:
    return {
        names.EXPERT: move.expert,
        names.SOURCE: move.source,
        names.TARGET: move.target,
        names.REASON: move.reason,
        names.OUTCOME: move.outcome,
        names.BYTES: move.bytes,
    }
