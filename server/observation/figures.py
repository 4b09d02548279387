"""The last hour of a gateway in figures: a sample every few seconds, in a bounded ring."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from experts.engines.engine import EngineStatistics
from memory_tiers.observations import LeaseGranted, MoveDone
from memory_tiers.observations import Observation as TierObservation
from memory_tiers.status import OpenCounts, TierStatus
from server.observation.story import Story

EVERY_S = 5.0
"""Seconds of one sample."""
KEPT = 720
"""Samples that are kept: an hour."""
MEASURED = 10_000
"""Most waits of one sample that its percentiles are of: the first."""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Percentiles of the seconds that something took. None: it did not happen."""

    p50: float | None
    p95: float | None
    p99: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Percentiles":
        ordered = sorted(values)

        def at(share: float) -> float | None:
            return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None

        return cls(at(0.50), at(0.95), at(0.99))


@dataclass(frozen=True, slots=True)
class Sample:
    """Figures of the ``seconds`` before ``at``, in seconds since 1970. ``number``: 1 for the first
    sample, then one more each time. ``first``: to the first bytes of
    streamed answers; ``gap``: from one token to the next, on an answer's average; ``wait``: for leases.
    ``hits``: leases by the tier where the expert was. ``moved``: bytes by where from and to, as
    ``disk>host``. ``switch_seconds`` of ``busy_seconds``: what engines spent on changing experts. ``used``:
    bytes by tier. ``failed``: requests with a status of 500 or more."""

    number: int
    at: float
    seconds: float
    requests: int
    failed: int
    tokens_in: int
    tokens_out: int
    first: Percentiles
    gap: Percentiles
    wait: Percentiles
    hits: Mapping[str, int]
    moved: Mapping[str, int]
    switches: int
    switch_seconds: float
    busy_seconds: float
    waiting: int
    leases: int
    used: Mapping[str, int]


@dataclass(slots=True)
class Span:
    """Counts since the last sample."""

    requests: int = 0
    failed: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    first: list[float] = field(default_factory=list)
    gap: list[float] = field(default_factory=list)
    wait: list[float] = field(default_factory=list)
    hits: dict[str, int] = field(default_factory=dict)
    moved: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Totals:
    """Totals of all engines since they started."""

    switches: int = 0
    switch_seconds: float = 0.0
    busy_seconds: float = 0.0

    @classmethod
    def of(cls, statistics: Mapping[str, EngineStatistics]) -> "Totals":
        return cls(
            sum(each.switches for each in statistics.values()),
            sum(each.switch_seconds for each in statistics.values()),
            sum(each.busy_seconds or 0.0 for each in statistics.values()),
        )


class Figures:
    """Counts what happens, and makes a sample of it when told to."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque(maxlen=KEPT)
        self._span = Span()
        self._totals = Totals()
        self._began: float | None = None  # of the span, by the clock of ``sample``

    def __repr__(self) -> str:
        return f"<Figures [{len(self._samples)}]>"

    def __iter__(self) -> Iterator[Sample]:
        """Iterates over the samples, the oldest first."""
        return iter(tuple(self._samples))

    @property
    def latest(self) -> int:
        """Returns the number of the latest sample; zero where there is none."""
        return self._samples[-1].number if self._samples else 0

    def since(self, number: int) -> list[Sample]:
        """Lists the samples after that of ``number``."""
        return [sample for sample in self if sample.number > number]

    def ended(self, story: Story) -> None:
        """Counts a request that has ended."""
        span, tokens = self._span, story.tokens
        span.requests += 1
        span.failed += story.outcome >= "500" and story.outcome != "client_left"
        span.tokens_in += tokens.prompt_tokens
        span.tokens_out += tokens.completion_tokens
        if not story.stream or story.first_at is None or len(span.first) >= MEASURED:
            return
        span.first.append(story.first_at - story.started)
        if tokens.completion_tokens > 1 and story.ended_at is not None:
            span.gap.append((story.ended_at - story.first_at) / (tokens.completion_tokens - 1))

    def observe(self, observation: TierObservation) -> None:
        """Counts an event of the tiers."""
        if isinstance(observation, LeaseGranted):
            span = self._span
            span.hits[observation.tier] = span.hits.get(observation.tier, 0) + 1
            if len(span.wait) < MEASURED:
                span.wait.append(observation.queue_seconds)
        elif isinstance(observation, MoveDone) and observation.bytes:
            path = f"{observation.source}>{observation.target}"
            self._span.moved[path] = self._span.moved.get(path, 0) + observation.bytes

    def sample(
        self,
        at: float,
        now: float,
        counts: OpenCounts,
        used: Sequence[TierStatus],
        engines: Mapping[str, EngineStatistics],
    ) -> None:
        """Ends a span. ``at``: seconds since 1970; ``now``: the same moment by a clock that only goes
        forward. ``engines``: those that answer."""
        span, self._span = self._span, Span()
        before, self._totals = self._totals, Totals.of(engines)
        total, self._began, began = self._totals, now, self._began
        anew = total.switches < before.switches or total.busy_seconds < before.busy_seconds  # one restarted
        since = Totals() if anew else before
        self._samples.append(
            Sample(
                number=self.latest + 1,
                at=at,
                seconds=EVERY_S if began is None else now - began,
                requests=span.requests,
                failed=span.failed,
                tokens_in=span.tokens_in,
                tokens_out=span.tokens_out,
                first=Percentiles.of(span.first),
                gap=Percentiles.of(span.gap),
                wait=Percentiles.of(span.wait),
                hits=span.hits,
                moved=span.moved,
                switches=total.switches - since.switches,
                switch_seconds=max(0.0, total.switch_seconds - since.switch_seconds),
                busy_seconds=total.busy_seconds - since.busy_seconds,
                waiting=counts.waiting,
                leases=counts.leases,
                used={tier.tier: tier.used_bytes for tier in used},
            )
        )
