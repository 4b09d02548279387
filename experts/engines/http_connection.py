"""One HTTP/1.1 connection to an engine's server, for one request after another."""

import asyncio
from typing import cast

import httptools

_MOST_UNREAD = 256 * 2**10
"""Bytes of a response that wait to be read, beyond which the server has to wait too."""


class ConnectionEnded(Exception):
    """The connection is gone, or was never there, before the end of a response."""


class HttpConnection(asyncio.Protocol):
    """A connection: ``ask``, then ``read`` to the end; then ask again, if it is ``idle``."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """``loop``: the one it is used in."""
        self._loop = loop
        self.status = 0
        self.content_type = ""
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._heard = False
        self._begun = False
        self._whole = True
        self._unread: list[bytes] = []
        self._unread_bytes = 0
        self._paused = False
        self._ended = ""
        """Why the connection has ended; empty while it has not."""
        self._waiter: asyncio.Future[None] | None = None

    @property
    def idle(self) -> bool:
        """Whether the next request may be sent."""
        return self._whole and not self._ended and not self._unread

    @property
    def heard(self) -> bool:
        """Whether a byte of the response has come."""
        return self._heard

    async def ask(self, request: bytes) -> None:
        """Sends ``request``, and waits for the response's status and headers. Raises ConnectionEnded."""
        assert self._transport is not None, "connected"
        self._heard = self._begun = self._whole = False
        self.content_type = ""
        self._transport.write(request)
        while not self._begun:
            await self._next()

    async def read(self) -> bytes:
        """Waits for bytes of the body and returns those not read yet; empty at the end. Raises
        ConnectionEnded."""
        while not self._unread:
            if self._whole:
                return b""
            await self._next()
        received = self._unread[0] if len(self._unread) == 1 else b"".join(self._unread)
        self._unread.clear()
        self._unread_bytes = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return received

    def close(self, why: str = "it was closed") -> None:
        """Closes the connection at once, which makes vLLM abort a request under way. Idempotent."""
        self._end(why)
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        if self._whole:
            self.close("the server sent what it was not asked for")
            return
        self._heard = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.close(f"what came is not HTTP: {error}")
            return
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self._end(str(error or "the server closed the connection"))

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"content-type":
            self.content_type = value.partition(b";")[0].strip().lower().decode("latin-1")

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self._begun = self.status >= 200

    def on_body(self, body: bytes) -> None:
        self._unread.append(body)
        self._unread_bytes += len(body)
        if self._unread_bytes > _MOST_UNREAD and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if not self._begun:
            return
        self._whole = True
        if not self._parser.should_keep_alive() and self._transport is not None:
            self._ended = "the server keeps no connections"
            self._transport.close()

    def _next(self) -> asyncio.Future[None]:
        """Returns what is done once something has come, or the connection has ended. Raises
        ConnectionEnded where it has already."""
        if self._ended:
            raise ConnectionEnded(self._ended)
        self._waiter = self._loop.create_future()
        return self._waiter

    def _end(self, why: str) -> None:
        self._ended = self._ended or why
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def __repr__(self) -> str:
        state = self._ended or ("idle" if self.idle else "asked")
        return f"<HttpConnection [{state}, status: {self.status}, unread: {self._unread_bytes}]>"
