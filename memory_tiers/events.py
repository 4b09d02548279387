"""What happens to the tiers (events, with the driver's time in seconds) and what shall be done (actions)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from experts.engines.engine import Engine
from experts.spec import Expert
from memory_tiers.errors import RejectionReason
from memory_tiers.tiers import Tier

MoveReason = Literal[
    "ticket", "preload", "prefetch", "operator", "eviction", "over_budget", "idle", "removed", "unusable"
]
"""Why an expert moves. Up: ``ticket``: somebody waits for it. ``preload``: it is pinned or a default, or its
engine starts with it, or it was on the device when its engine died. ``prefetch``: it will probably be
wanted. Down: ``eviction``: another expert needs its place. ``over_budget``: measured bytes turned out over
the budget, or the budget became smaller. ``idle``: nobody used it for as long as it was to stay.
``removed``: it is not configured any more. ``unusable``: no engine could load this copy. Either way:
``operator``: it was ordered."""

Priority = Literal["high", "normal", "low"]
"""Who is served first of those who wait; nobody waits past ``max_wait_s`` for the sake of a higher one."""


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
    ``age_s``: of what leaves, be it the one that is replaced, how long it has been there. ``gives_back``: the
    bytes that what leaves ``source`` holds there.
    """

    expert: str
    source: Tier
    target: Tier
    reason: MoveReason
    beneficiary: str | None = None
    replaces: str | None = None
    image: bool = False
    age_s: float | None = field(default=None, compare=False)
    gives_back: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class AbortMove:
    """End ``move``, a read from disk, before its time if it still can. It fails then, or has finished."""

    move: Move


@dataclass(frozen=True, slots=True)
class StopEngine:
    """Give back all that the engine of ``family`` holds. ``reason`` and ``beneficiary``: as of a Move.
    ``ages_s``: of whoever is resident, how long it has been there."""

    family: str
    reason: MoveReason
    beneficiary: str | None = None
    ages_s: Mapping[str, float] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Forget:
    """``expert`` is nowhere any more, and nobody will hear of it again."""

    expert: str


@dataclass(frozen=True, slots=True)
class Grant:
    """The ticket is a lease from now on, whether or not its client still waits."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Reject:
    ticket: int
    reason: RejectionReason
    message: str


Action = StartEngine | StopEngine | Move | AbortMove | Grant | Reject | Forget


@dataclass(frozen=True, slots=True)
class Member:
    """What the tiers know of an expert from the beginning. ``default``: the device holds it when nobody asks
    for others. ``ttl_s``: how long it stays there unused; None: until its place is needed."""

    name: str
    family: str
    weights_bytes: int
    pinned: bool = False
    default: bool = False
    ttl_s: float | None = None

    @classmethod
    def of(cls, expert: Expert) -> "Member":
        return cls(
            expert.name, expert.family, expert.weights_bytes, expert.pinned, expert.default, expert.ttl_s
        )


@dataclass(frozen=True, slots=True)
class Family:
    """What the tiers know of an engine: ``Engine.resident_limit`` and ``Engine.held_bytes``."""

    name: str
    resident_limit: int | None
    held: int = 0

    @classmethod
    def of(cls, engine: Engine) -> "Family":
        return cls(engine.family, engine.resident_limit, engine.held_bytes)


@dataclass(frozen=True, slots=True)
class Revision:
    """What becomes different at once. ``added``: also such of the new ``families``. ``removed``: nobody may
    ask for them any more, and who waits for them or uses them is served; a family without experts ends.
    ``changed``: others of ``pinned``, ``default`` and ``ttl_s``, the same weights. ``device`` and ``host``:
    bytes; None: as they are."""

    added: tuple[Member, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[Member, ...] = ()
    families: tuple[Family, ...] = ()
    device: int | None = None
    host: int | None = None


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
    priority: Priority = "normal"


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
class EngineStopped:
    """A StopEngine was carried out."""

    family: str
    at: float


@dataclass(frozen=True, slots=True)
class RestartDue:
    """Time to try an engine again whose starts failed, though nobody asks for it."""

    family: str
    at: float


@dataclass(frozen=True, slots=True)
class Foreseen:
    """How probable it is of each of some experts, not the one that was chosen, that it is wanted soon."""

    chances: tuple[tuple[str, float], ...]
    at: float


@dataclass(frozen=True, slots=True)
class OrderGiven:
    """An operator wants ``expert`` in ``tier``. It is checked beforehand: ``Changes.may_order``."""

    expert: str
    tier: Tier
    at: float


@dataclass(frozen=True, slots=True)
class LoadCancelled:
    """An operator does not want ``expert`` to be loaded: whoever waits for it is rejected."""

    expert: str
    at: float


@dataclass(frozen=True, slots=True)
class ExpertChanged:
    """Its pin, ``default`` and ``ttl_s`` are as ``member`` says. Checked beforehand: ``Changes.may_have``."""

    member: Member
    at: float


@dataclass(frozen=True, slots=True)
class Revised:
    """Another configuration. Checked beforehand: ``Changes.may_revise``."""

    revision: Revision
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
