"""The state of a running gateway, its logs and a request's story, as a terminal reads them."""

import logging
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict

from memory_tiers.status import TierStatus


def _level_name(level: object) -> object:
    """Returns the name of a level that may be a number, as in a story."""
    return logging.getLevelName(level) if isinstance(level, int) else level


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True)


class Gateway(_Read):
    version: str
    started: float
    ready: bool
    draining: bool
    requests: int
    waiting: int


class EngineRow(_Read):
    state: str
    rests: bool
    starts: int
    detail: str
    bound_hits: int
    active: str | None
    running: int | None
    switches: int | None


class ExpertRow(_Read):
    tier: str
    device: str
    host: str
    pinned: bool
    leases: int
    waiting: int
    weights_bytes: int
    ordered: str | None
    failure: str
    breaker_open: bool


class MoveRow(_Read):
    expert: str
    source: str
    target: str
    reason: str
    bytes: int
    bytes_per_s: float | None
    seconds: float
    done: float | None
    remaining_s: float | None


class RequestRow(_Read):
    id: str
    began: float
    state: str
    key: str
    model: str
    expert: str
    category: str | None
    confidence: float | None
    by: str | None
    tier: str | None
    phases: tuple[tuple[str, float, float | None], ...]
    tokens_in: int
    tokens_out: int
    tokens_per_s: float | None
    outcome: str
    error: str

    @property
    def ended(self) -> bool:
        return self.state == "ended"


class State(_Read):
    """Everything at one moment; ``at`` in seconds since 1970. Rows are by their names."""

    at: float
    gateway: dict[str, Gateway]
    tiers: dict[str, TierStatus]
    engines: dict[str, EngineRow]
    experts: dict[str, ExpertRow]
    moves: dict[str, MoveRow]
    requests: dict[str, RequestRow]


class LogLine(_Read):
    """``at``: seconds since 1970; None for an engine's, whose text has its own time. ``level``: its name."""

    at: float | None
    level: Annotated[str, BeforeValidator(_level_name)]
    logger: str
    text: str


class LogPart(_Read):
    """A part of a log. ``sources``: all logs that there are. ``next``: to go on from there."""

    sources: tuple[str, ...]
    lines: tuple[LogLine, ...]
    next: int


class RuledOut(_Read):
    message: str


class Scored(_Read):
    expert: str
    score: float
    standard_error: float


class Decision(_Read):
    """Decision of the router. ``row``: the row of its map, best first; None where it has no scores.
    ``fixed``: by hand, whatever the scores are."""

    category: str
    cluster: str
    confidence: float
    uncertain: bool
    sticky: bool
    probabilities: dict[str, float]
    row: tuple[Scored, ...] | None
    fixed: bool = False
    seconds: float


class Lease(_Read):
    tries: int
    tier: str | None
    queue_seconds: float
    load_seconds: float


class TierEvent(_Read):
    """A move, a displacement or a change of an engine. ``ended``: seconds since the request came."""

    ended: float
    kind: str
    expert: str = ""
    source: str = ""
    target: str = ""
    reason: str = ""
    outcome: str = ""
    bytes: int = 0
    seconds: float = 0.0
    made_room_for: str | None = None
    family: str = ""
    state: str = ""
    detail: str = ""


class Story(RequestRow):
    """All that is known of a request."""

    path: str
    peer: str
    seconds: float
    trace_id: str | None
    first_seconds: float | None
    cached_tokens: int
    composition: str | None
    in_place_of: str | None
    decided: Decision | None
    ruled_out: tuple[RuledOut, ...]
    lease: Lease
    moves: tuple[TierEvent, ...]
    log: tuple[LogLine, ...]
