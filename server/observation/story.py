"""Story of one request: what its account notes on its way, in the order of its phases."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from memory_tiers.lease import Lease
from memory_tiers.tiers import Tier
from router.composition import Choice
from server.routing.explanation import MapSource
from server.routing.routing import Route

State = Literal["admitting", "routing", "waiting", "prefilling", "decoding", "ended"]
PhaseName = Literal["admit", "route", "wait", "load", "queue", "prefill", "decode"]


class Tokens(Protocol):
    """Counts the tokens of an answer while it passes, and has the engine's times in seconds once it told
    them: in its queue, and from there to the first token."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    queue_seconds: float | None
    prefill_seconds: float | None


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a request's time, in seconds from when it came. The last one of a live request ends now."""

    name: PhaseName
    start: float
    seconds: float


@dataclass(slots=True, eq=False)
class Story:
    """Story of one request. Times are seconds of a clock that only goes forward; None: it has not
    come that far.

    ``number``: this gateway's own, never given twice. ``id``: the one that its answer has as x-request-id,
    which its client may have chosen, and may have chosen twice. ``came``: when it started, in seconds since
    1970. ``route``: without the prompt and the composition, of which ``map_source`` is kept.
    ``tier``: where the expert was when the lease was asked for. ``queue_seconds``: from the ticket to the
    lease; ``load_seconds``: the part of it in which moves for the expert were under way. ``tries``: leases so
    far; more than one where an engine was lost. ``prompt``: empty unless the configuration has it kept.
    """

    number: int
    id: str
    path: str
    peer: str
    started: float
    came: float
    tokens: Tokens
    key: str = ""
    model: str = ""
    stream: bool = False
    expert: str = ""
    route: Route | None = None
    map_source: MapSource | None = None
    route_at: float | None = None
    routed_at: float | None = None
    granted_at: float | None = None
    first_at: float | None = None
    ended_at: float | None = None
    tier: Tier | None = None
    queue_seconds: float = 0.0
    load_seconds: float = 0.0
    tries: int = 0
    outcome: str = ""
    error: str = ""
    prompt: str = ""
    trace_id: str = ""
    cancel: Callable[[], None] | None = None
    """Ends the request before its time; None: it cannot be ended, or not any more."""

    def routed(self, route: Route, at: float) -> None:
        """Notes the route that is tried now, and lets go of the text that it was decided for, and of the
        composition: stories are kept for longer than that is."""
        choice, source = route.choice, route.source
        self.map_source = None if source is None else MapSource.of_composition(source)
        if choice is not None:
            choice = Choice(choice.decision, choice.by, choice.alone, "", choice.sticky)
            route = Route(
                route.expert, route.ruled_out, route.composition, choice, in_place_of=route.in_place_of
            )
        self.route = route
        self.expert = route.expert
        if self.routed_at is None:
            self.routed_at = at

    def leased(self, lease: Lease, at: float) -> None:
        """Notes a lease that was granted just now."""
        self.tries += 1
        self.tier = lease.tier
        self.queue_seconds, self.load_seconds = lease.queue_seconds, lease.swap_seconds
        self.granted_at = at

    @property
    def state(self) -> State:
        if self.ended_at is not None:
            return "ended"
        if self.first_at is not None:
            return "decoding"
        if self.granted_at is not None:
            return "prefilling"
        if self.routed_at is not None:
            return "waiting"
        return "admitting" if self.route_at is None else "routing"

    def phases(self, now: float) -> Iterator[Phase]:
        """Yields what has begun, in order. The engine tells its times with an answer's end: until then, and
        where it does not, its queue is part of ``prefill``, and all computing for an answer that comes in
        one piece is ``decode``."""
        end = now if self.ended_at is None else self.ended_at
        first = self.first_at if self.stream else self.granted_at
        queue, prefill = self.tokens.queue_seconds, self.tokens.prefill_seconds
        scheduled = None
        if self.granted_at is not None and queue is not None and prefill is not None:
            scheduled = min(self.granted_at + queue, end)
            if not self.stream:
                first = min(scheduled + prefill, end)
            elif first is not None:
                scheduled = min(scheduled, first)
        marks: list[tuple[PhaseName, float | None]] = [("admit", self.started), ("route", self.route_at)]
        marks.append(("wait", self.routed_at))
        if self.granted_at is not None:
            marks.append(("load", self.granted_at - self.load_seconds if self.load_seconds else None))
            marks.append(("queue", self.granted_at if scheduled is not None else None))
            marks.append(("prefill", scheduled or (self.granted_at if self.stream else None)))
        marks.append(("decode", first))
        begun = [(name, at) for name, at in marks if at is not None]
        ends = [at for _, at in begun[1:]] + [end]
        for (name, at), until in zip(begun, ends, strict=True):
            yield Phase(name, at - self.started, max(0.0, until - at))

    @property
    def first_seconds(self) -> float | None:
        """Seconds to the first bytes of a streamed answer."""
        return None if self.first_at is None or not self.stream else self.first_at - self.started

    def tokens_per_s(self, now: float) -> float | None:
        """Tokens a second since the first bytes of a streamed answer, or since the lease of one that came
        whole; None: there are none to measure by."""
        begun = self.first_at if self.stream else self.granted_at
        if begun is None or not self.tokens.completion_tokens:
            return None
        seconds = (now if self.ended_at is None else self.ended_at) - begun
        return self.tokens.completion_tokens / seconds if seconds > 0 else None
