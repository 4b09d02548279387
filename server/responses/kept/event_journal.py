"""The events of responses that are streamed from the background, so that clients can leave and come back.

All in memory, bounded in bytes. Whose they are is checked where the response itself is found.
"""

import asyncio
from collections.abc import AsyncIterator

from server.error_table import Failure
from server.errors import EventsGone
from server.responses.wire.events import error_event
from server.transport import sse

REJOIN_S = 600.0
"""Seconds that an ended response's events are kept."""
_AT_ONCE = 1000
_OVERHEAD = 64
"""Bytes that Python takes for an event beside its own."""
_GONE = "they were more than are kept, or it has fallen behind: retrieve the response without 'stream'."


class Journal:
    """The events of one response. They have numbers from 0 on, one after another, as their
    ``sequence_number``."""

    def __init__(self, journals: "Journals") -> None:
        self._journals = journals
        self._events: list[bytes] = []
        self._first = 0
        self._comment = b""
        self._news = asyncio.Event()
        self.bytes = 0
        self.ended = False

    @property
    def next(self) -> int:
        """Returns the number of the next event."""
        return self._first + len(self._events)

    def write(self, chunk: bytes) -> None:
        """Appends whole events, and comments, which reach only the clients that follow just now."""
        assert not self.ended, "a journal that ended is not written to"
        for event in sse.split(chunk):
            if sse.is_comment(event):
                self._comment = event
            else:
                self._events.append(event)
                self._grown(len(event) + _OVERHEAD)
        self._tell()
        self._journals.make_room()

    def end(self) -> None:
        """Ends the journal: no more events come."""
        self.ended = True
        self._tell()

    def forget_half(self) -> None:
        """Drops the older half of the events, at least one."""
        count = (len(self._events) + 1) // 2
        self._grown(-sum(len(event) + _OVERHEAD for event in self._events[:count]))
        del self._events[:count]
        self._first += count

    def since(self, number: int) -> list[bytes]:
        """Returns the events from ``number`` on, not all if they are many. Raises EventsGone."""
        if number < self._first:
            raise EventsGone(f"The events from number {number} on are not kept any more: {_GONE}", "stream")
        return self._events[number - self._first : number - self._first + _AT_ONCE]

    async def comment(self) -> bytes:
        """Waits until there is an event or a comment. Returns a comment that came alone."""
        at, news = self.next, self._news
        await news.wait()
        return self._comment if at == self.next and not self.ended else b""

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _grown(self, size: int) -> None:
        self.bytes += size
        self._journals.bytes += size

    def __repr__(self) -> str:
        return f"<Journal [{self._first} to {self.next}, {self.bytes} bytes, ended: {self.ended}]>"


class Following:
    """Implements ``server.exchange.destination.StreamedAnswer`` for one client of a journal. ``next``: the
    number of its next event."""

    def __init__(self, journal: Journal, next: int) -> None:
        """Begins at event ``next``. Raises EventsGone."""
        journal.since(next)
        self._journal = journal
        self.next = next

    def is_last(self, chunk: bytes) -> bool:
        return self._journal.ended and not self._journal.since(self.next)

    def error_event(self, failure: Failure) -> bytes:
        return error_event(failure, self.next)

    async def events(self) -> AsyncIterator[bytes]:
        """Yields events until the journal ends. Raises EventsGone."""
        while True:
            events = self._journal.since(self.next)
            if events:
                self.next += len(events)
                yield b"".join(events)
            elif self._journal.ended:
                return
            else:
                yield await self._journal.comment()


class Journals:
    """All journals, by the id of their response. ``bytes``: of all together."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._journals: dict[str, Journal] = {}
        self._forgetting: dict[str, asyncio.TimerHandle] = {}
        self.bytes = 0

    def open(self, id: str) -> Journal:
        journal = self._journals[id] = Journal(self)
        return journal

    def end(self, id: str) -> None:
        """Ends a journal and drops it after a while. It may have been dropped already."""
        if id in self._journals:
            self._journals[id].end()
            loop = asyncio.get_running_loop()
            self._forgetting[id] = loop.call_later(REJOIN_S, self.drop, id)

    def drop(self, id: str) -> None:
        """Ends and drops a journal, if there is one."""
        timer = self._forgetting.pop(id, None)
        if timer is not None:
            timer.cancel()
        journal = self._journals.pop(id, None)
        if journal is not None:
            self.bytes -= journal.bytes
            journal.end()

    def close(self) -> None:
        for id in list(self._journals):
            self.drop(id)

    def find(self, id: str) -> Journal:
        """Returns a journal. Raises EventsGone."""
        journal = self._journals.get(id)
        if journal is None:
            raise EventsGone(
                f"No events of {id[:100]!r} are kept: it was not made with 'background' and 'stream', or "
                "ended too long ago. Retrieve it without 'stream'.",
                "stream",
            )
        return journal

    def make_room(self) -> None:
        """Drops the journal that ended first; if all run, the largest one loses its older half."""
        while self.bytes > self._most_bytes:
            if self._forgetting:
                self.drop(next(iter(self._forgetting)))
            else:
                max(self._journals.values(), key=lambda journal: journal.bytes).forget_half()

    def __repr__(self) -> str:
        return f"<Journals [{len(self._journals)}, {self.bytes} of {self._most_bytes} bytes]>"
