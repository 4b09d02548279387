"""What happens to the tiers (events, with the driver's time in seconds) and what shall be done (actions)."""

from dataclasses import dataclass
from typing import Literal

from memory_tiers.errors import RejectionReason
from memory_tiers.tiers import Tier

MoveReason = Literal["ticket", "preload", "eviction", "over_budget", "unusable"]
"""``ticket``: somebody waits for the expert. ``preload``: it is pinned, or its engine starts with it, or it
was on the device when its engine died. ``unusable``: no engine could load this copy.
``eviction``: another expert needs its place. ``over_budget``: measured bytes turned out over the budget."""


@dataclass(frozen=True, slots=True)
class StartEngine:
    """Start the engine of ``family`` with ``expert`` resident, reading the copy in ``source``."""

    family: str
    expert: str
    source: Tier


@dataclass(frozen=True, slots=True)
class Move:
    """Bring ``expert`` from ``source`` to ``target``; from a higher to a lower tier means giving memory back.

    ``beneficiary`` is the expert an eviction makes room for. ``replaces`` is the resident expert whose place
    a load takes in an engine that is full by count. ``image``: the engine may use, or make and leave, an
    image in its own format on the host, in place of the copy of the checkpoint there; room is reserved.
    """

    expert: str
    source: Tier
    target: Tier
    reason: MoveReason
    beneficiary: str | None = None
    replaces: str | None = None
    image: bool = False


@dataclass(frozen=True, slots=True)
class Grant:
    """The ticket is a lease from now on, whether or not its client still waits."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Reject:
    ticket: int
    reason: RejectionReason
    message: str


Action = StartEngine | Move | Grant | Reject


@dataclass(frozen=True, slots=True)
class Opened:
    """Start the engines and load what is pinned."""

    at: float


@dataclass(frozen=True, slots=True)
class TicketAsked:
    """``ticket`` is new. With ``fail_fast`` it is granted at once or rejected at once, and causes no load."""

    ticket: int
    expert: str
    at: float
    fail_fast: bool = False


@dataclass(frozen=True, slots=True)
class TicketCancelled:
    """The client of a waiting ticket left."""

    ticket: int
    at: float


@dataclass(frozen=True, slots=True)
class LeaseReleased:
    ticket: int
    at: float


@dataclass(frozen=True, slots=True)
class MoveFinished:
    """``bytes`` is what the expert now holds in the target tier; 0 where the move gave memory back.
    ``image_bytes``: of the image that is on the host since a load with ``image``; 0: there is none."""

    move: Move
    bytes: int
    at: float
    image_bytes: int = 0


@dataclass(frozen=True, slots=True)
class MoveFailed:
    """Nothing changed. When the engine's death is the cause, EngineDied comes first."""

    move: Move
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class EngineStarted:
    family: str
    expert: str
    bytes: int
    at: float


@dataclass(frozen=True, slots=True)
class EngineStartFailed:
    family: str
    expert: str
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class EngineDied:
    """A started engine ended by itself; what was on its device memory is gone."""

    family: str
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class RestartDue:
    """Time to try an engine again whose starts failed, though nobody asks for it."""

    family: str
    at: float


@dataclass(frozen=True, slots=True)
class TimePassed:
    """Nothing happened, but somebody may have waited or stayed long enough: see ``TierState.deadline``."""

    at: float


@dataclass(frozen=True, slots=True)
class DrainRequested:
    """No new tickets, no new moves; leases may end in peace."""

    at: float


Event = (
    Opened
    | TicketAsked
    | TicketCancelled
    | LeaseReleased
    | MoveFinished
    | MoveFailed
    | EngineStarted
    | EngineStartFailed
    | EngineDied
    | RestartDue
    | TimePassed
    | DrainRequested
)
