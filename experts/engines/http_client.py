"""HTTP to a server on a Unix socket, or on another machine, over connections that are kept open.

It knows what the way to an engine needs and no more: a third of aiohttp's processor time
(docs/benchmarks/gateway.md).
"""

import asyncio
import socket as sockets
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from experts.engines.engine import NO_HEADERS
from experts.engines.http_connection import ConnectionEnded, HttpConnection

KEPT_S = 3.0
"""How long an idle connection is kept: uvicorn, and so vLLM, closes it after five seconds."""


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """Where another machine's server listens. ``headers``: lines that each request has, with their ends."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    headers: str = ""


class HttpResponse:
    """A response whose headers are here. ``close`` it, also after its end."""

    def __init__(self, connection: HttpConnection, done: Callable[[HttpConnection], None]) -> None:
        self.status = connection.status
        self.content_type = connection.content_type
        self.read_any = connection.read
        """Returns the next bytes of the body; empty at its end. Raises ConnectionEnded."""
        self._connection = connection
        self._done: Callable[[HttpConnection], None] | None = done

    async def read(self) -> bytes:
        """Returns the rest of the body. Raises ConnectionEnded."""
        pieces = []
        while piece := await self._connection.read():
            pieces.append(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """Gives back a connection whose response was read to its end, and closes any other. Idempotent."""
        done, self._done = self._done, None
        if done is not None:
            done(self._connection)

    def __repr__(self) -> str:
        return f"<HttpResponse [status: {self.status}, {self.content_type}]>"


class HttpClient:
    """The connections to one server, used again and again. ``clock`` counts seconds."""

    def __init__(self, place: Path | TcpAddress, clock: Callable[[], float] = time.monotonic) -> None:
        """``place``: its Unix socket, or where else it listens."""
        self._place = place
        self._headers = place.headers if isinstance(place, TcpAddress) else ""
        self._clock = clock
        self._idle: list[tuple[HttpConnection, float]] = []
        self._busy: set[HttpConnection] = set()
        self._closed = False

    async def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        again: bool = False,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> HttpResponse:
        """Sends a request, and returns the response once its headers are here. Raises ConnectionEnded.

        ``again``: the request may go over a connection that has served before, and once more over a new one
        if that ends without a byte of a response: then the server had closed it just then, or has died, which
        the second try finds out. A request that must not be done twice has a connection of its own, which is
        closed after it: kept, they would pile up beside those that are used again.
        ``headers``: more of them, of values without line ends.
        """
        content = b"" if body is None else body
        head = f"{method} {path} HTTP/1.1\r\nhost: engine\r\n{self._headers}"
        if body is not None:
            head += f"content-type: application/json\r\ncontent-length: {len(content)}\r\n"
        for name, value in headers.items():
            head += f"{name}: {value}\r\n"
        asked = f"{head}\r\n".encode("latin-1") + content
        kept = self._kept() if again else None
        if kept is not None:
            try:
                return await self._ask(kept, asked, self._keep)
            except ConnectionEnded:
                if kept.heard:
                    raise
        return await self._ask(await self._connect(), asked, self._keep if again else self._drop)

    async def close(self) -> None:
        """Closes all connections: responses under way raise ConnectionEnded, as do later requests."""
        self._closed = True
        for connection in [*self._busy, *(connection for connection, _ in self._idle)]:
            connection.close("the client was closed")
        self._idle.clear()

    async def _ask(
        self, connection: HttpConnection, asked: bytes, done: Callable[[HttpConnection], None]
    ) -> HttpResponse:
        self._busy.add(connection)
        try:
            await connection.ask(asked)
        except BaseException:
            self._drop(connection)
            raise
        return HttpResponse(connection, done)

    async def _connect(self) -> HttpConnection:
        if self._closed:
            raise ConnectionEnded("the client was closed")
        try:
            connection = await self._connected()
        except (OSError, UnicodeError) as error:  # the latter: what cannot be a host's name
            raise ConnectionEnded(str(error)) from error
        if self._closed:
            connection.close("the client was closed")
        return connection

    async def _connected(self) -> HttpConnection:
        """Raises OSError, also where the server's certificate is not the expected one."""
        loop, place = asyncio.get_running_loop(), self._place
        if isinstance(place, Path):
            _, made = await loop.create_unix_connection(lambda: HttpConnection(loop), str(place))
            return made
        transport, connection = await loop.create_connection(
            lambda: HttpConnection(loop), place.host, place.port, ssl=place.tls
        )
        _watch(transport.get_extra_info("socket"))
        return connection

    def _kept(self) -> HttpConnection | None:
        """Returns the connection used last, so that the others grow old."""
        now = self._clock()
        while self._idle:
            connection, since = self._idle.pop()
            if now - since < KEPT_S and connection.idle:
                return connection
            connection.close()
        return None

    def _drop(self, connection: HttpConnection) -> None:
        self._busy.discard(connection)
        connection.close()

    def _keep(self, connection: HttpConnection) -> None:
        """Keeps a connection that can be used again, and closes those that are too old."""
        if not connection.idle or self._closed:
            self._drop(connection)
            return
        self._busy.discard(connection)
        now = self._clock()
        self._idle.append((connection, now))
        while now - self._idle[0][1] >= KEPT_S:
            self._idle.pop(0)[0].close()

    def __repr__(self) -> str:
        return f"<HttpClient [busy: {len(self._busy)}, idle: {len(self._idle)}]>"


def _watch(socket: sockets.socket) -> None:
    """Has the system end the connection when the other machine has vanished."""
    socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_KEEPALIVE, 1)
    socket.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_KEEPIDLE, 2)
    socket.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_KEEPINTVL, 1)
    socket.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_KEEPCNT, 3)
    socket.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_USER_TIMEOUT, 5_000)
