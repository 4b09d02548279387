"""A response that is told as its expert answers."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable

import orjson

from server.error_table import Failure
from server.responses.wire.events import error_event, events_of
from server.responses.wire.from_chat import Answering
from server.responses.wire.request import renamed
from server.transport import sse


class StreamedResponse:
    """Implements ``server.exchange.destination.StreamedAnswer``. ``answering``: how the response stands."""

    def __init__(
        self,
        chunks: AsyncIterator[bytes],
        answering: Answering,
        keep: Callable[[Answering], Awaitable[None]],
    ) -> None:
        """``chunks``: the chat completion's events."""
        self._chunks = chunks
        self._keep = keep
        self.answering = answering
        self._last: bytes | None = None

    async def events(self) -> AsyncIterator[bytes]:
        answering = self.answering
        yield events_of(answering.begin())
        async for chunk in self._chunks:
            for event in sse.split(chunk):
                data = sse.data_of(event)
                if sse.is_comment(event):  # keeps the connection alive
                    yield event
                elif data is not None and data != sse.DONE:
                    yield events_of(answering.take(orjson.loads(data)))
        yield events_of(answering.end(int(time.time())))
        await self._keep(answering)  # before the client hears of the end and goes on from it
        self._last = events_of([answering.last()])
        yield self._last

    def is_last(self, chunk: bytes) -> bool:
        return chunk is self._last

    def error_event(self, failure: Failure) -> bytes:
        failure = renamed(failure)
        return events_of(self.answering.fail(failure)) if self.answering.begun else error_event(failure, 0)
