"""Errors of the tiers, from the start to a request's lease.

TiersError
├── LeaseRejected      a ticket ended without a lease; ``reason`` is one of ``RejectionReason``
├── BudgetTooSmall     a tier's budget is too small for an expert; raised before anything starts
├── OrderRefused       an operator's order cannot be carried out now; nothing changed
├── HostUnavailable    the host tier's memory cannot be written; raised before anything starts
├── HostFull           a copy finds no room in shared memory; the tiers do without it
├── ManagerBroken      a bug of ours was found while serving; no more leases are granted
├── LogUnwritable      the event log cannot be running; raised before anything starts
├── LogUnreadable      a file is no event log of this version
├── SimulationImpossible  a profile, a trace or their combination cannot be simulated
└── PlanImpossible     a configuration cannot be planned on, or does not fit, the GPUs it names
"""

from typing import Literal

RejectionReason = Literal[
    "queue_full",
    "load_failed",
    "load_cancelled",
    "engine_failed",
    "shutting_down",
    "not_resident",
    "unknown_expert",
]


class TiersError(Exception):
    """Is the root of the tree. The message says what to do next."""


class LeaseRejected(TiersError):
    """Ends a ticket without a lease. ``retry_after_s`` comes from measured moves; None where none was
    measured or waiting does not help."""

    def __init__(self, reason: RejectionReason, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.reason: RejectionReason = reason
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[type["LeaseRejected"], tuple[RejectionReason, str, float | None]]:
        return LeaseRejected, (self.reason, str(self), self.retry_after_s)


class BudgetTooSmall(TiersError):
    """Names an expert, or a set of them, that the budgets can never hold."""


class OrderRefused(TiersError):
    """Says why an operator's order cannot be carried out; nothing changed."""


class HostUnavailable(TiersError):
    """Says why the host tier's memory cannot be written."""


class HostFull(TiersError):
    """Says that shared memory has no room for a copy. ``held``: bytes that all copies may take there."""

    def __init__(self, message: str, held: int) -> None:
        super().__init__(message)
        self.held = held


class ManagerBroken(TiersError):
    """Ends whatever is asked of a manager that found a bug of ours."""


class LogUnwritable(TiersError):
    """Says why the event log cannot be begun."""


class LogUnreadable(TiersError):
    """Names the file and line that are no event log of this version."""


class SimulationImpossible(TiersError):
    """Names the profile or trace that cannot be simulated, and why."""


class PlanImpossible(TiersError):
    """Says what to change so that a configuration fits its GPUs; raised before anything starts."""
