"""Bytes on their way to the client, and noticing that the client has left."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Coroutine, Mapping

from starlette.types import Receive, Send

SSE = "text/event-stream; charset=utf-8"
SSE_HEADERS = {
    "content-type": SSE,
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # nginx passes events on as they come
}


async def while_connected(work: Coroutine[None, None, None], receive: Receive) -> bool:
    """Runs ``work`` to its end and returns True, or cancels it when the client leaves and returns False.

    Whatever ``work`` holds is given back by its own ``finally`` before this returns, also when the caller
    itself is cancelled.
    """
    working = asyncio.current_task()
    assert working is not None, "in a task"
    departure = Departure(working, receive)
    watcher = asyncio.create_task(departure.watch())
    try:
        await work
    except asyncio.CancelledError:
        if not departure.noticed or working.uncancel() > 0:  # the caller was cancelled too
            raise
        return False
    finally:
        watcher.cancel()
    return True


class Departure:
    """Of a client: cancels ``working`` when it is noticed."""

    def __init__(self, working: "asyncio.Task[None]", receive: Receive) -> None:
        self._working = working
        self._receive = receive
        self.noticed = False

    async def watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.noticed = True
        self._working.cancel()


async def send_start(send: Send, status: int, headers: Mapping[str, str]) -> None:
    raw = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})


async def send_chunks(send: Send, chunks: AsyncIterator[bytes]) -> None:
    """As they come. Does not end the response."""
    async for chunk in chunks:
        if chunk:
            await send_part(send, chunk)


def send_part(send: Send, chunk: bytes) -> Awaitable[None]:
    return send({"type": "http.response.body", "body": chunk, "more_body": True})


async def send_end(send: Send, body: bytes = b"") -> None:
    await send({"type": "http.response.body", "body": body, "more_body": False})
