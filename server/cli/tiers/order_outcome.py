"""Outcome of an order, as its expert's status shows it."""

from dataclasses import dataclass
from typing import assert_never

from memory_tiers.status import ExpertStatus, MoveProgress
from memory_tiers.tiers import Tier
from server.operator_api import Verb

HEIGHT: dict[Tier, int] = {"disk": 0, "host": 1, "device": 2}


@dataclass(frozen=True, slots=True)
class Order:
    """Order to a gateway. ``tier``: where the expert shall go; None where the verb names no tier of its
    own."""

    verb: Verb
    expert: str
    tier: Tier | None = None


@dataclass(frozen=True, slots=True)
class OrderOutcome:
    """Outcome of an order. ``carried_out``: the expert is where the order sends it. ``text``: one line for
    people."""

    carried_out: bool
    text: str


def outcome(order: Order, status: ExpertStatus | None) -> OrderOutcome | None:
    """Returns the outcome; None: it is not settled yet."""
    if status is None:
        return OrderOutcome(False, f"there is no expert {order.expert} any more")
    match order.verb:
        case "unpin":
            return _there(status)
        case "cancel":
            return None if status.loading or status.ordered is not None else _there(status)
        case "pin":
            return _of_pin(status)
        case "load" | "demote" | "move":
            assert order.tier is not None
            return _of_move(order.tier, status)
        case _:
            assert_never(order.verb)


def _of_pin(status: ExpertStatus) -> OrderOutcome | None:
    if not status.pinned:
        return OrderOutcome(False, f"{status.expert} was unpinned by another order")
    if status.device == "present":
        return _there(status)
    return OrderOutcome(False, status.failure) if status.failure else None


def _of_move(tier: Tier, status: ExpertStatus) -> OrderOutcome | None:
    name = status.expert
    if tier == "device" and status.tier == "device":
        return _there(status)
    if status.ordered == tier:
        return None
    if status.ordered is not None:
        return OrderOutcome(False, f"another order sends {name} to {status.ordered}")
    if status.failure:
        return OrderOutcome(False, status.failure)
    if tier == "device":
        return OrderOutcome(
            False, f"{name} is on {status.tier}: its load was cancelled, or it has left again"
        )
    if HEIGHT[status.tier] > HEIGHT[tier]:
        return OrderOutcome(
            False, f"{name} is on {status.tier}: somebody has asked for it, or it cannot leave"
        )
    return _there(status)


def _there(status: ExpertStatus) -> OrderOutcome:
    return OrderOutcome(True, f"{status.expert} is on {status.tier}{', pinned' if status.pinned else ''}")


def stage(status: ExpertStatus, move: MoveProgress | None) -> str:
    """Says in a few words what an unsettled order waits for."""
    if move is not None:
        return f"{move.source} to {move.target}"
    if status.device == "present" and status.leases:
        return f"answers under way: {status.leases}"
    return "waits for its turn"
