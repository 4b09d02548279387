"""The latest moves, evictions and engine changes, to be told with the requests that they were for."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from memory_tiers.observations import (
    Displaced,
    EngineChanged,
    LeaseEnded,
    LeaseGranted,
    MoveDone,
    TicketEnded,
)
from memory_tiers.observations import Observation as TierObservation

KEPT = 2000
"""Events that are kept: the latest."""
TierEvent = MoveDone | Displaced | EngineChanged
OF_REQUESTS = (LeaseGranted, LeaseEnded, TicketEnded)
"""Events of single requests, which come too often to be looked at for long."""


@dataclass(frozen=True, slots=True)
class Happened:
    """An event, when it ended, by a clock that only goes forward."""

    at: float
    event: TierEvent

    def concerns(self, expert: str, family: str) -> bool:
        """Whether it brought ``expert`` up or down, made room for it, or changed its ``family``'s engine."""
        event = self.event
        if isinstance(event, EngineChanged):
            return event.family == family
        return expert in (event.expert, event.beneficiary)


class TierEvents:
    """Keeps what the tiers' manager observes of others than single requests."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: deque[Happened] = deque(maxlen=KEPT)

    def __repr__(self) -> str:
        return f"<TierEvents [{len(self._kept)}]>"

    def __iter__(self) -> Iterator[Happened]:
        """Iterates over the events, the oldest first."""
        return iter(tuple(self._kept))

    def observe(self, observation: TierObservation) -> None:
        """Keeps an event that is not of a single request."""
        if not isinstance(observation, OF_REQUESTS):
            self._kept.append(Happened(self._clock(), observation))

    def during(self, begun: float, ended: float, expert: str, family: str) -> list[Happened]:
        """Lists what ended in a span of time and concerns ``expert``."""
        return [each for each in self if begun <= each.at <= ended and each.concerns(expert, family)]
