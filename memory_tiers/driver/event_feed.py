"""Feeds events to the state machine, and has its actions carried out."""

import asyncio
import logging
from collections.abc import Callable

from memory_tiers.actions import Action
from memory_tiers.driver.event_log import EventLog
from memory_tiers.errors import ManagerBroken
from memory_tiers.events import Event, TimePassed
from memory_tiers.state.state_machine import TierState

log = logging.getLogger("coe.tiers")

CHECK_EVENTS = 256
"""Events from one check of the invariants to the next, at least."""


class EventFeed:
    """The only way to the state. ``feed`` never awaits, so that no locks are needed.

    An error in it is a bug of ours: the feed is broken from then on, ``broke`` is called, and no caller waits
    for ever.
    """

    def __init__(
        self,
        state: TierState,
        event_log: EventLog | None,
        clock: Callable[[], float],
        carry_out: Callable[[Action], None],
        broke: Callable[[Exception], None],
    ) -> None:
        """``carry_out`` begins an action; ``broke`` is told once that no more events are taken."""
        self._state = state
        self._event_log = event_log
        self._clock = clock
        self._carry_out = carry_out
        self._broke = broke
        self._changed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._unchecked = 0
        self.broken = False

    def __repr__(self) -> str:
        return f"<EventFeed to {self._state!r}{' broken' if self.broken else ''}>"

    def feed(self, event: Event) -> None:
        """Gives the state the event and begins what follows. Does nothing once broken."""
        if not self.broken:
            try:
                actions = self._state.handle(event)
                if self._event_log is not None:
                    self._event_log.write(event, actions)
                self._check()
                for action in actions:
                    self._carry_out(action)
                self._set_timer()
            except Exception as error:  # noqa: BLE001  # our own mistake: all are told, and nothing more is decided
                self.break_down(error)
        self._changed.set()

    def feed_or_raise(self, event: Event) -> None:
        """Feeds the event. Raises ManagerBroken."""
        self.feed(event)
        self.require_whole()

    def require_whole(self) -> None:
        """Raises ManagerBroken once broken."""
        if self.broken:
            raise broken_error()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Waits until ``holds`` after some event, or the feed is broken."""
        while not holds() and not self.broken:
            self._changed.clear()
            await self._changed.wait()

    def break_down(self, error: Exception) -> None:
        """Takes no more events because of an error of our own."""
        log.critical("the tier manager is broken: restart the server", exc_info=error)
        self.broken = True
        self._broke(broken_error())
        self._changed.set()

    def close(self) -> None:
        """Feeds no TimePassed any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _check(self) -> None:
        """Checks the invariants once in as many events as there are experts, and in no fewer than
        ``CHECK_EVENTS``: looking at every expert after every event would cost more than deciding does."""
        self._unchecked += 1
        if self._unchecked >= max(CHECK_EVENTS, self._state.status.known):
            self._unchecked = 0
            self._state.check()

    def _set_timer(self) -> None:
        """Sets the timer for when the state has to be told that time has passed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._state.deadline is not None:
            seconds = max(0.0, self._state.deadline - self._clock())
            self._timer = asyncio.get_running_loop().call_later(seconds, self._time_passed)

    def _time_passed(self) -> None:
        self._timer = None
        self.feed(TimePassed(self._clock()))


def broken_error() -> ManagerBroken:
    """Makes the error that ends every request once the feed is broken."""
    return ManagerBroken("the tier manager found an error of its own: see the log, restart the server")
