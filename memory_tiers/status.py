"""What the tiers look like now."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from experts.engines.engine import EngineState
from memory_tiers.events import MoveReason
from memory_tiers.state.ledger import Presence
from memory_tiers.tiers import Tier


@dataclass(frozen=True, slots=True)
class ExpertStatus:
    """One expert. ``tier`` is the highest that holds it; ``device`` and ``host`` tell what is on its way.
    Byte counts are what is charged now, 0 where nothing is. ``ordered``: where an operator, its ``ttl_s`` or
    its removal sends it, until it is there or that was given up. ``failure``: why its latest load failed,
    empty when it did not, and when an operator has sent it somewhere since."""

    expert: str
    family: str
    tier: Tier
    device: Presence
    host: Presence
    pinned: bool
    leases: int
    waiting: int
    weights_bytes: int
    device_bytes: int
    host_bytes: int
    image: bool
    """Its host copy is an image in the engine's format."""
    default: bool
    ttl_s: float | None
    ordered: Tier | None
    failure: str

    @property
    def loading(self) -> bool:
        return "arriving" in (self.device, self.host)


@dataclass(frozen=True, slots=True)
class TierStatus:
    """``capacity_bytes`` None: unlimited. More is used only where measurements exceeded the estimates.
    ``reserved_bytes``: the part of ``used_bytes`` that is still on its way."""

    tier: Tier
    used_bytes: int
    reserved_bytes: int
    capacity_bytes: int | None


@dataclass(frozen=True, slots=True)
class MoveProgress:
    """A move under way. ``done``: the share of its bytes that has arrived where that can be seen (a read from
    disk), else of its time as moves of that kind took before; None where nothing is known. ``remaining_s``:
    by the same."""

    expert: str
    source: Tier
    target: Tier
    reason: MoveReason
    bytes: int
    seconds: float
    done: float | None
    remaining_s: float | None


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """``starts`` counts attempts; ``detail`` says why the engine is dead. ``rests``: it does not run, or is
    about to stop, since nobody needs it or others need its memory, and the next request starts it.
    ``bound_hits``: how often somebody waited as long as ``max_wait_s``."""

    family: str
    state: EngineState
    starts: int
    detail: str
    rests: bool
    bound_hits: int


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts since the server started."""

    prefetches: Mapping[tuple[Tier, Literal["used", "wasted"]], int]


@dataclass(frozen=True, slots=True)
class Readiness:
    """Ready: every engine that was to run runs."""

    ready: bool
    engines: tuple[EngineStatus, ...]


@dataclass(frozen=True, slots=True)
class OpenCounts:
    """All zero when nothing is left behind."""

    waiting: int
    leases: int
    moves: int
