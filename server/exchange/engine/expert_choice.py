"""Which expert is asked: the one that was routed to, and in the place of a broken one another."""

from experts.spec import Expert
from server.resilience.circuit_breakers import broken_by
from server.routing.routing import Routed
from server.services import Services

FALLBACKS = 2
"""How many other experts are asked when the chosen one is broken."""


class ExpertChoice:
    """``routed``: the route that is tried now."""

    __slots__ = ("_broken", "_left", "_services", "routed")

    def __init__(self, services: Services, routed: Routed) -> None:
        self._services = services
        self._broken = frozenset[str]()
        self._left = FALLBACKS
        self.routed = routed

    def __repr__(self) -> str:
        return f"<ExpertChoice {self.routed.expert.name}, {self._left} fallbacks left>"

    def fall_back(self, error: Exception) -> bool:
        """Goes on to the expert that the composition chooses in the place of one that ``error`` broke. False:
        there is none, or the error is about something else."""
        name = self.routed.expert.name
        self._broken |= broken_by(error, self.routed.expert, self._services.experts)
        if name not in self._broken or not self._left:
            return False
        instead = self._services.instead(self.routed, self._broken)
        if instead is None:
            return False
        self.routed, self._left = instead, self._left - 1
        return True


def resident_like(expert: Expert, services: Services) -> Expert:
    """``expert``, or one of its family that need not be brought to the device."""
    resident = [
        status.expert
        for status in services.tiers.status()
        if status.family == expert.family and status.tier == "device"
    ]
    return expert if expert.name in resident or not resident else services.experts[resident[0]]
