"""Observations of the driver, for metrics, logs and the live page."""

from dataclasses import dataclass
from typing import Literal

from experts.engines.engine import EngineState
from memory_tiers.actions import MoveReason
from memory_tiers.errors import RejectionReason
from memory_tiers.tiers import Tier

MoveOutcome = Literal["done", "failed", "cancelled"]
TicketOutcome = Literal["cancelled", "broken"] | RejectionReason


@dataclass(frozen=True, slots=True)
class MoveDone:
    """A move ended. ``bytes``: moved or given back; 0 when it failed. ``age_s``: seconds that what left a
    tier had been there. ``beneficiary``: the expert that it made room for. ``bytes_from_nodes``: as many were
    read from other nodes, also where the move failed."""

    expert: str
    source: Tier
    target: Tier
    reason: MoveReason
    outcome: MoveOutcome
    bytes: int
    seconds: float
    detail: str = ""
    age_s: float | None = None
    beneficiary: str | None = None
    bytes_from_nodes: int = 0


@dataclass(frozen=True, slots=True)
class Displaced:
    """An expert left the device without a move of its own: a load took its place, or its engine was stopped.
    An engine's death is no displacement. ``beneficiary``: the expert that it made room for."""

    expert: str
    reason: MoveReason
    age_s: float
    beneficiary: str | None = None


@dataclass(frozen=True, slots=True)
class LeaseGranted:
    """A ticket ended with a lease. ``tier``: where the expert was when it was asked for. ``swap_seconds``:
    the part of ``queue_seconds`` in which moves for this expert were under way."""

    expert: str
    tier: Tier
    queue_seconds: float
    swap_seconds: float


@dataclass(frozen=True, slots=True)
class LeaseEnded:
    """A lease was given back after ``seconds``."""

    expert: str
    seconds: float


@dataclass(frozen=True, slots=True)
class TicketEnded:
    """A ticket ended without a lease. Every ticket of an expert that exists ends once."""

    expert: str
    outcome: TicketOutcome
    queue_seconds: float


@dataclass(frozen=True, slots=True)
class EngineChanged:
    """An engine reached another state. ``starts``: attempts so far. ``seconds``: what a start or a stop took,
    0 where none ended. ``detail``: why the engine is dead or was stopped."""

    family: str
    state: EngineState
    starts: int
    seconds: float = 0.0
    detail: str = ""


Observation = MoveDone | Displaced | LeaseGranted | LeaseEnded | TicketEnded | EngineChanged
