"""Everything that can go wrong between a request and its lease.

TiersError
├── LeaseRejected      a ticket ended without a lease; ``reason`` is one of ``RejectionReason``
├── BudgetTooSmall     an expert can never be where it has to be; raised before anything starts
├── OrderRefused       an operator's order cannot be carried out as things are; nothing changed
├── HostUnavailable    the host tier's memory cannot be written; raised before anything starts
├── ManagerBroken      a bug of ours was found while serving; nothing more is granted
├── LogUnwritable      the event log cannot be running; raised before anything starts
├── LogUnreadable      a file is no event log of this version
└── SimulationImpossible  a profile, a trace or their combination cannot be simulated
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
    """Root of the tree. The message says what to do next."""


class LeaseRejected(TiersError):
    """``retry_after_s`` comes from measured moves; None where none was measured or waiting does not help."""

    def __init__(self, reason: RejectionReason, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.reason: RejectionReason = reason
        self.retry_after_s = retry_after_s


class BudgetTooSmall(TiersError):
    pass


class OrderRefused(TiersError):
    pass


class HostUnavailable(TiersError):
    pass


class ManagerBroken(TiersError):
    pass


class LogUnwritable(TiersError):
    pass


class LogUnreadable(TiersError):
    pass


class SimulationImpossible(TiersError):
    pass
