"""Events that the driver tells the tiers' state machine. ``at`` is the driver's time in seconds."""

from dataclasses import dataclass
from typing import Literal

from memory_tiers.actions import Move
from memory_tiers.members import Member, Revision
from memory_tiers.tiers import Tier

Priority = Literal["high", "normal", "low"]
"""Which waiting tickets are served first; none waits past ``max_wait_s`` because of a higher priority."""


@dataclass(frozen=True, slots=True)
class Opened:
    """Serving begins: engines start and pinned experts load."""

    at: float


@dataclass(frozen=True, slots=True)
class TicketAsked:
    """A request asks for a lease; ``ticket`` is a number above all before. With ``fail_fast`` it is granted
    or rejected at once, and causes no load. ``conversation``: equal for requests that begin alike, whose
    prefix an engine of several may have cached; empty: none. ``keep_s``: the expert's ``ttl_s`` until another
    request is granted it; None: as configured, infinite: none."""

    ticket: int
    expert: str
    at: float
    fail_fast: bool = False
    priority: Priority = "normal"
    conversation: str = ""
    keep_s: float | None = None


@dataclass(frozen=True, slots=True)
class TicketCancelled:
    """The client of a waiting ticket left."""

    ticket: int
    at: float


@dataclass(frozen=True, slots=True)
class LeaseReleased:
    """The request that held the lease ended."""

    ticket: int
    at: float


@dataclass(frozen=True, slots=True)
class MoveFinished:
    """A Move was carried out. ``bytes``: what the expert now holds in the target tier; 0 where the move gave
    memory back. ``image_bytes``: the image that is on the host since a load with ``image``; 0: there is none.
    """

    move: Move
    bytes: int
    at: float
    image_bytes: int = 0


@dataclass(frozen=True, slots=True)
class MoveFailed:
    """A Move changed nothing. If the engine's death was the cause, EngineDied comes first. ``device_full``:
    the device had no room, which says nothing of the copy that was read."""

    move: Move
    reason: str
    at: float
    device_full: bool = False


@dataclass(frozen=True, slots=True)
class HostFilled:
    """A read from disk found shared memory full. ``bytes``: what the host's copies may take together."""

    move: Move
    bytes: int
    at: float


@dataclass(frozen=True, slots=True)
class EngineStarted:
    """A StartEngine was carried out; ``expert`` holds ``bytes`` on the device."""

    family: str
    expert: str
    bytes: int
    at: float


@dataclass(frozen=True, slots=True)
class EngineStartFailed:
    """A StartEngine failed; the engine does not run."""

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
class EngineStopped:
    """A StopEngine was carried out. ``asleep``: the engine sleeps; else it ended."""

    family: str
    at: float
    asleep: bool = False


@dataclass(frozen=True, slots=True)
class RestartDue:
    """An engine whose starts failed is to be tried again, though no request asks for it."""

    family: str
    at: float


@dataclass(frozen=True, slots=True)
class Foreseen:
    """The router gave each of some experts, except the chosen one, a probability of being wanted soon."""

    chances: tuple[tuple[str, float], ...]
    at: float


@dataclass(frozen=True, slots=True)
class OrderGiven:
    """An operator wants ``expert`` in ``tier``. Checked beforehand: ``Orders.may_order``."""

    expert: str
    tier: Tier
    at: float


@dataclass(frozen=True, slots=True)
class LoadCancelled:
    """An operator does not want ``expert`` to be loaded: requests that wait for it are rejected. Checked
    beforehand: ``Orders.may_cancel``."""

    expert: str
    at: float


@dataclass(frozen=True, slots=True)
class ExpertChanged:
    """An expert's pin, ``default`` and ``ttl_s`` are now as ``member`` says. Checked beforehand:
    ``Orders.may_change``."""

    member: Member
    at: float


@dataclass(frozen=True, slots=True)
class Revised:
    """The configuration changed. Checked beforehand: ``Revisions.may_revise``."""

    revision: Revision
    at: float


@dataclass(frozen=True, slots=True)
class TimePassed:
    """Nothing happened, but ``TierState.deadline`` has come: a wait or a stay may have become long enough."""

    at: float


@dataclass(frozen=True, slots=True)
class DrainRequested:
    """Shutdown begins: no new tickets, no new moves; leases may end."""

    at: float


Event = (
    Opened
    | TicketAsked
    | TicketCancelled
    | LeaseReleased
    | MoveFinished
    | MoveFailed
    | HostFilled
    | EngineStarted
    | EngineStartFailed
    | EngineDied
    | EngineStopped
    | RestartDue
    | Foreseen
    | OrderGiven
    | LoadCancelled
    | ExpertChanged
    | Revised
    | TimePassed
    | DrainRequested
)
