"""The stream of a gateway's state: a snapshot, then what changes, made once for all who listen."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager

import orjson

from experts.engines.engine import EngineStatistics
from experts.errors import EngineError
from server.live.sections import Moment, SectionReader, Sections, delta, snapshot
from server.services import NodeServices
from server.transport import sse

log = logging.getLogger("coe.live")

EVERY_S = 0.5
"""Seconds from one look at the state to the next, while someone listens."""
STILL_S = 5.0
"""Seconds without a change after which a listener is told that there was none."""
BEHIND = 16
"""Messages that wait for a listener until it counts as too slow."""


class Listener:
    """Someone who is told: a page or a terminal. ``ended``: nothing more comes. ``cut`` is called once, from
    outside, where it does not take what comes."""

    def __init__(self, first: bytes, cut: Callable[[], None]) -> None:
        self._waiting = deque([first])
        self._came = asyncio.Event()
        self._came.set()
        self._cut = cut
        self.ended = False

    def __repr__(self) -> str:
        return f"<Listener {len(self._waiting)} behind{' ended' if self.ended else ''}>"

    def tell(self, message: bytes) -> None:
        """Puts a message in line, or gives the listener up."""
        if self.ended:
            return
        if len(self._waiting) >= BEHIND:
            self.end()
            self._waiting.clear()
            self._cut()
            return
        self._waiting.append(message)
        self._came.set()

    def end(self) -> None:
        """Tells nothing more."""
        self.ended = True
        self._came.set()

    async def messages(self) -> AsyncIterator[bytes]:
        """Yields what is told, until it ends."""
        while True:
            while self._waiting:
                yield self._waiting.popleft()
            if self.ended:
                return
            self._came.clear()
            await self._came.wait()


class Feed:
    """Looks at the state while there are listeners, and does nothing while there are none."""

    def __init__(self, services: NodeServices) -> None:
        self._services = services
        self._reader = SectionReader(services)
        self._listeners: dict[Listener, Callable[[], bool]] = {}
        self._sections: Sections = {}
        self._statistics: Mapping[str, EngineStatistics] = {}
        self._snapshot: bytes | None = None
        self._looking: asyncio.Task[None] | None = None
        self._told_at = 0.0
        self._sampled = 0

    def __repr__(self) -> str:
        return f"<Feed to {len(self._listeners)}>"

    @property
    def listeners(self) -> int:
        return len(self._listeners)

    async def state(self) -> bytes:
        """Returns a snapshot as of now."""
        at = time.time()
        statistics = await engine_statistics(self._services)
        return snapshot(self._reader.read(Moment(at, len(self._listeners), statistics)), at)

    @contextmanager
    def listening(self, cut: Callable[[], None], over: Callable[[], bool]) -> Iterator[Listener]:
        """Makes a listener, which is told the state first. ``cut``: ends a listener that is too slow.
        ``over``: whether its connection is to end."""
        if self._looking is None:
            self._look()
            self._looking = asyncio.create_task(self._look_on(), name="feed of the state")
        if self._snapshot is None:
            self._snapshot = sse.framed(snapshot(self._sections, time.time()), "snapshot")
        listener = Listener(self._snapshot, cut)
        self._listeners[listener] = over
        try:
            yield listener
        finally:
            del self._listeners[listener]
            if not self._listeners:
                self._looking.cancel()
                self._looking = self._snapshot = None

    async def _look_on(self) -> None:
        try:
            while True:
                self._statistics = await engine_statistics(self._services)
                self._tell_changes()
                for listener, over in self._listeners.items():
                    if over():
                        listener.end()
                await asyncio.sleep(EVERY_S)
        except Exception:  # a bug of ours: listeners are not left to wait for ever
            log.exception("the state cannot be read")
            for listener in self._listeners:
                listener.end()

    def _look(self) -> None:
        at = time.time()
        self._sections = self._reader.read(Moment(at, len(self._listeners), self._statistics))
        self._sampled = self._services.observer.figures.latest

    def _tell_changes(self) -> None:
        before, at = self._sections, time.time()
        sampled = self._sampled
        self._look()
        changes = delta(before, self._sections, at)
        if changes is not None:
            self._snapshot = None
            self.tell(sse.framed(changes, "delta"))
        for sample in self._services.observer.figures.since(sampled):
            self.tell(sse.framed(orjson.dumps(sample), "sample"))
        if at - self._told_at >= STILL_S:
            self.tell(sse.framed(b"{}", "still"))

    def tell(self, message: bytes) -> None:
        """Tells all listeners the same."""
        self._told_at = time.time()
        for listener in tuple(self._listeners):
            listener.tell(message)


async def engine_statistics(services: NodeServices) -> dict[str, EngineStatistics]:
    """Asks the engines that are ready for their counts; those that do not answer are left out."""
    statistics = {}
    for family, engine in services.engines.items():
        if engine.state == "ready":
            try:
                statistics[family] = await engine.statistics()
            except EngineError:
                continue
    return statistics
