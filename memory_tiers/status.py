"""The state of the tiers at one moment, for people and metrics."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from experts.engines.engine import EngineState
from memory_tiers.actions import MoveReason
from memory_tiers.tiers import Presence, Tier


@dataclass(frozen=True, slots=True)
class ExpertStatus:
    """One expert. ``tier``: the highest that holds it. ``device`` and ``host``: what is there or on its way.
    Byte counts are charged now, 0 where nothing is. ``ordered``: where an operator, its ``ttl_s`` or its
    removal sends it, until it is there or that was given up. ``failure``: why its latest load failed, empty
    when it did not, and when an operator has sent it somewhere since."""

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
    engines: tuple[str, ...] = ()
    """The engines that have it on their device."""

    @property
    def loading(self) -> bool:
        """Whether a copy of it is on its way up."""
        return "arriving" in (self.device, self.host)


@dataclass(frozen=True, slots=True)
class TierStatus:
    """One tier. ``capacity_bytes`` None: unlimited. More is used only where measurements exceeded the
    estimates. ``reserved_bytes``: the part of ``used_bytes`` that is still on its way."""

    tier: Tier
    used_bytes: int
    reserved_bytes: int
    capacity_bytes: int | None


@dataclass(frozen=True, slots=True)
class GpuStatus:
    """One GPU with a budget of its own. ``used_bytes``: charged for experts and adapters; KV pools, contexts
    and graphs are beside."""

    number: int
    used_bytes: int
    capacity_bytes: int


@dataclass(frozen=True, slots=True)
class MoveProgress:
    """A move under way. ``done``: the share of its bytes that has arrived where that can be seen (a read from
    disk), else the share of the time that such moves took before; None where nothing is known.
    ``remaining_s``: estimated the same way."""

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
    """One engine. ``starts``: attempts. ``detail``: why it is dead. ``rests``: it does not run, sleeps, or is
    about to, because no request needs it or others need its memory; the next request starts or wakes it.
    ``bound_hits``: how often an expert's oldest ticket waited as long as ``max_wait_s``."""

    family: str
    state: EngineState
    starts: int
    detail: str
    rests: bool
    bound_hits: int


PrefetchUse = Literal["used", "wasted"]
"""Whether a prefetched copy was used before it left its tier."""
PrefetchCounts = Mapping[tuple[Tier, PrefetchUse], int]
"""Prefetched copies since the server started."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether every engine that is meant to run does, and each engine's state."""

    ready: bool
    engines: tuple[EngineStatus, ...]


@dataclass(frozen=True, slots=True)
class OpenCounts:
    """Tickets that wait, leases that are held and moves under way; all 0 when nothing is left behind."""

    waiting: int
    leases: int
    moves: int
