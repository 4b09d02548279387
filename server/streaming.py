"""Bytes on their way to the client, and noticing that the client has left."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping

from starlette.types import Receive, Send

SSE = "text/event-stream; charset=utf-8"


async def while_connected(work: Coroutine[None, None, None], receive: Receive) -> bool:
    """Runs ``work`` to its end and returns True, or cancels it when the client leaves and returns False.

    Whatever ``work`` holds is given back by its own ``finally`` before this returns, also when the caller
    itself is cancelled.
    """
    task = asyncio.create_task(work)
    watcher = asyncio.create_task(_disconnect(receive))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        watcher.cancel()
        task.cancel()  # of no effect on a task that has ended
        await asyncio.wait({task, watcher})
    if task.cancelled():
        return False
    task.result()
    return True


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def send_start(send: Send, status: int, headers: Mapping[str, str]) -> None:
    raw = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})


async def send_chunks(send: Send, chunks: AsyncIterator[bytes]) -> None:
    """As they come. Does not end the response."""
    async for chunk in chunks:
        if chunk:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})


async def send_end(send: Send, body: bytes = b"") -> None:
    await send({"type": "http.response.body", "body": body, "more_body": False})
