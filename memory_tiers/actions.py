"""Actions that the tiers' state machine asks of its driver, in the order in which it returns them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from memory_tiers.errors import RejectionReason
from memory_tiers.tiers import Tier

MoveReason = Literal[
    "ticket", "preload", "prefetch", "operator", "eviction", "over_budget", "idle", "removed", "unusable"
]
"""Why an expert moves. Upwards: ``ticket``: a request waits for it. ``preload``: it is pinned or a default,
or its engine starts with it, or it was on the device when its engine died. ``prefetch``: it will probably be
wanted. Downwards: ``eviction``: another expert needs its place. ``over_budget``: measured bytes turned out
over the budget, or the budget became smaller. ``idle``: it stayed unused for its ``ttl_s``. ``removed``: it
is not configured any more. ``unusable``: no engine could load this copy. Either way: ``operator``: an
operator ordered it."""


@dataclass(frozen=True, slots=True)
class StartEngine:
    """Starts the engine of ``family`` with ``expert`` resident, reading the copy in ``source``."""

    family: str
    expert: str
    source: Tier


@dataclass(frozen=True, slots=True)
class Move:
    """Brings ``expert`` from ``source`` to ``target``; a move to a lower tier gives memory back.

    ``beneficiary``: the expert that an eviction makes room for. ``replaces``: the resident expert whose place
    a load takes in an engine that is full by count. ``image``: the engine may use, or make and leave, an
    image in its own format on the host, in place of the checkpoint's copy there; room for it is reserved.
    ``age_s``: seconds that the expert that leaves (the replaced one, if there is one) was in its tier.
    ``gives_back``: bytes that the leaving copy holds in ``source``.
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
    """Ends ``move``, a read from disk, early if it still runs. The move then fails, or has finished."""

    move: Move


@dataclass(frozen=True, slots=True)
class StopEngine:
    """Stops the engine of ``family``, which gives back all memory it holds. ``reason`` and ``beneficiary``:
    as in a Move. ``ages_s``: seconds that each resident expert was on the device. ``sleep``: it gives back
    the device's memory and goes on to run; the next load wakes it."""

    family: str
    reason: MoveReason
    beneficiary: str | None = None
    ages_s: Mapping[str, float] = field(default_factory=dict, compare=False)
    sleep: bool = False


@dataclass(frozen=True, slots=True)
class Forget:
    """Drops what the driver knows of ``expert``: it was removed, is in no tier and is never named again."""

    expert: str


@dataclass(frozen=True, slots=True)
class Grant:
    """Turns the ticket into a lease from now on, whether or not its client still waits. ``engine``: whose."""

    ticket: int
    engine: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Reject:
    """Ends the ticket without a lease."""

    ticket: int
    reason: RejectionReason
    message: str


Action = StartEngine | StopEngine | Move | AbortMove | Grant | Reject | Forget
