"""A load on an HTTP endpoint, and what it gave: what the generator's process is told and tells."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import orjson

Kind = Literal["plain", "stream"]
PATH = "/v1/chat/completions"
NUMBER = "00000000"
"""Place in a prompt where each request has another number."""
READ_ONCE = (
    f"My landlord wants {NUMBER} euros because I left the flat early. Does the law say that I must pay it?"
)
"""Prompt that the embedded router's quick stage decides alone."""
READ_TWICE = (
    f"What does article {NUMBER} of the civil code say about a tenant who leaves early, and who pays?"
)
"""Prompt that it is not sure of."""
GENERATOR = "generator"
"""Name of the generator among the processes whose CPU seconds it reports."""


@dataclass(frozen=True, slots=True)
class Load:
    """Chat requests to ``host:port`` for ``seconds`` after ``warming_s`` that do not count.

    ``streams``: that many ask again as soon as they are answered (closed loop). Zero: ``rate`` requests a
    second come at random, whatever is answered (open loop). Each prompt is another one, by its number.
    ``watched``: processes whose CPU seconds are wanted, by what they are.
    """

    port: int
    model: str
    kind: Kind
    tokens: int
    seconds: float
    warming_s: float
    streams: int = 0
    rate: float = 0.0
    seed: int = 0
    watched: Mapping[str, tuple[int, ...]] | None = None
    prompt: str = READ_TWICE

    def line(self) -> bytes:
        return orjson.dumps(asdict(self)) + b"\n"

    @classmethod
    def of(cls, line: bytes) -> Self:
        return cls(**orjson.loads(line))


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds."""

    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """``first`` and ``last``: from sending a request to the first byte of its answer's body, and to its last.
    ``late_ms``: 99th percentile of how much later than it should a request was sent (open loop).
    ``cpu_s``: of the processes watched and of the generator. ``failures``: what was wrong with answers, and
    how often; those do not count as requests."""

    requests: int
    seconds: float
    first: Latency
    last: Latency
    late_ms: float
    cpu_s: Mapping[str, float]
    failures: Mapping[str, int]

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds

    def line(self) -> bytes:
        return orjson.dumps(asdict(self)) + b"\n"

    @classmethod
    def of(cls, line: bytes) -> Self:
        read: dict[str, Any] = orjson.loads(line)
        return cls(**read | {name: Latency(**read[name]) for name in ("first", "last")})
