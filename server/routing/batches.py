"""Requests that want a decision at the same time: one thread reads their prompts together."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from server.routing.thread_pools import Workers

MOST = 32
"""Requests of a batch. They take some 3 ms together; more would save little and make the first ones wait."""
LONG = 20_000
"""Characters from which a conversation is read by itself: others would wait for it."""
MANY = 40
"""Messages from which it is, too."""

Made = TypeVar("Made")


class Reader(Protocol):
    """A Composition."""

    def read_ahead(self, conversations: Sequence[Sequence[Mapping[str, object]]]) -> Sequence[bool]: ...


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """A request that waits. ``read``: whether nothing is left to read for it."""

    reader: Reader
    messages: Sequence[Mapping[str, Any]]
    read: "asyncio.Future[bool]"


class Batches:
    """Decides for one event loop. While a batch is read, the requests that come make the next one: nobody
    waits for a batch to fill. What cannot be read quickly, or is long, gets a thread of its own and holds up
    nobody."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._waiting: list[Waiting] = []
        self._reading: asyncio.Task[None] | None = None

    async def decide(
        self, reader: Reader, messages: Sequence[Mapping[str, Any]], work: Callable[[], Made]
    ) -> Made:
        """Does ``work`` after the turns of ``messages`` were read with those of others: at once where nothing
        is left to read, which takes a tenth of a millisecond, else in a thread."""
        if is_short(messages):
            waiting = Waiting(reader, messages, asyncio.get_running_loop().create_future())
            self._waiting.append(waiting)
            if self._reading is None:
                self._reading = asyncio.create_task(self._read())
            if await waiting.read:
                return work()
        return await self._workers.decide(work)

    async def _read(self) -> None:
        while self._waiting:
            batch = [each for each in self._waiting[:MOST] if not each.read.done()]
            del self._waiting[:MOST]
            reading = self._workers.read(partial(read_together, batch))
            await asyncio.wait([reading])
            # Where reading fails, each request reads by itself, and raises its own error.
            found = reading.result() if reading.exception() is None else [False for _ in batch]
            for waiting, read in zip(batch, found, strict=True):
                if not waiting.read.done():
                    waiting.read.set_result(read)
        self._reading = None

    def __repr__(self) -> str:
        return f"<Batches: {len(self._waiting)} wait>"


def is_short(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Says whether a conversation is read with others: few messages of text alone."""
    if len(messages) >= MANY:
        return False
    contents = [message.get("content") or "" for message in messages]
    return all(isinstance(content, str) for content in contents) and sum(map(len, contents)) < LONG


def read_together(batch: Sequence[Waiting]) -> list[bool]:
    """Reads the requests of each reader together. Says of each whether nothing is left to read."""
    found = [False for _ in batch]
    for reader in {id(each.reader): each.reader for each in batch}.values():
        places = [place for place, each in enumerate(batch) if each.reader is reader]
        read = reader.read_ahead([batch[place].messages for place in places])
        for place, whole in zip(places, read, strict=True):
            found[place] = whole
    return found
