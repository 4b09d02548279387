"""Which expert leaves first. The manager and the simulator ask the same policy."""

from typing import Protocol


class Candidate(Protocol):
    """What a policy may know of an expert that could leave a tier."""

    @property
    def name(self) -> str: ...

    @property
    def last_used(self) -> float:
        """Seconds on the driver's clock: the last grant, release or load."""
        ...


class Policy(Protocol):
    """Orders victims. Whether an expert may be a victim at all is not its business."""

    def rank(self, candidate: Candidate) -> float:
        """Who has the lowest rank leaves first. Must not change while nothing happens to the candidate."""
        ...


class LeastRecentlyUsed:
    def rank(self, candidate: Candidate) -> float:
        return candidate.last_used
