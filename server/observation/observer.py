"""The observer of one gateway: everything that is kept of it to be shown, and nothing of it on disk."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from memory_tiers.observations import LeaseGranted, MoveDone
from memory_tiers.observations import Observation as TierObservation
from server.config.observation import ObservationConfig
from server.observation.figures import Figures
from server.observation.log_lines import LogLines
from server.observation.stories import Stories
from server.observation.story import Story
from server.observation.tier_events import OF_REQUESTS, TierEvents


class Observer:
    """``clock``: seconds that only go forward, of all times in stories and tier events."""

    def __init__(
        self,
        config: ObservationConfig,
        clock: Callable[[], float] = time.monotonic,
        ended: Callable[[Story], None] | None = None,
    ) -> None:
        """``ended``: told each story that ends, in the place of the figures."""
        self.clock = clock
        self.figures = Figures()
        self.stories = Stories(config.requests, ended or self.figures.ended, clock)
        self.tier_events = TierEvents(clock)
        self.log_lines = LogLines(config.log_lines)

    def __repr__(self) -> str:
        return f"<Observer {self.stories!r} {self.tier_events!r} {self.log_lines!r} {self.figures!r}>"

    def observe(self, observation: TierObservation) -> None:
        """Keeps an event of the tiers' manager."""
        kind = type(observation)
        if kind is LeaseGranted or kind is MoveDone:
            self.figures.observe(observation)
        if kind not in OF_REQUESTS:
            self.tier_events.observe(observation)


@contextmanager
def observing(config: ObservationConfig) -> Iterator[Observer]:
    """Makes an observer that hears the log of this process until it is left."""
    observer, root = Observer(config), logging.getLogger()
    root.addHandler(observer.log_lines)
    try:
        yield observer
    finally:
        root.removeHandler(observer.log_lines)
