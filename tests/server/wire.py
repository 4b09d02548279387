"""A client that writes bytes to a gateway's socket, for requests that no HTTP library would send."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson

HOST = b"Host: gateway\r\n"


@dataclass(frozen=True, slots=True)
class Reply:
    """One whole answer. ``headers``: small letters; of several with one name the last."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = orjson.loads(self.body)["error"]
        return error


@dataclass(frozen=True, slots=True)
class Wire:
    """An open connection. What is awaited ends within ``patience_s`` or raises TimeoutError."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    patience_s: float

    async def send(self, raw: bytes) -> None:
        self.writer.write(raw)
        await asyncio.wait_for(self.writer.drain(), self.patience_s)

    async def reply(self) -> Reply | None:
        """The next answer, checked to be well formed; None: the connection was closed before one. Raises
        AssertionError."""
        async with asyncio.timeout(self.patience_s):
            try:
                head = await self.reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError as error:
                if error.partial:
                    raise AssertionError(f"half an answer: {error.partial[:200]!r}") from error
                return None
            except ConnectionError:
                return None
            first, *lines = head[:-4].decode("latin-1").split("\r\n")
            version, status, _ = first.split(" ", 2)
            assert version == "HTTP/1.1", first
            pairs = (line.partition(": ") for line in lines)
            headers = {name.lower(): value for name, _, value in pairs}
            return Reply(int(status), headers, await self._body(headers))

    async def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return await self.reader.readexactly(int(headers["content-length"]))
        parts = []
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            parts.append(await self.reader.readexactly(size))
            assert await self.reader.readexactly(2) == b"\r\n"
        assert await self.reader.readexactly(2) == b"\r\n"
        return b"".join(parts)

    async def closed(self) -> bytes:
        """What came until the gateway closed."""
        async with asyncio.timeout(self.patience_s):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""


@contextlib.asynccontextmanager
async def wire(url: str, patience_s: float = 30.0, tls: ssl.SSLContext | None = None) -> AsyncIterator[Wire]:
    """A connection to the gateway at ``url``."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=tls)
    try:
        yield Wire(reader, writer, patience_s)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def post(body: bytes, path: bytes = b"/v1/chat/completions", more: bytes = b"") -> bytes:
    """A request, with ``more`` headers, each with its line's end."""
    return b"POST %b HTTP/1.1\r\n%bContent-Length: %d\r\n%b\r\n%b" % (path, HOST, len(body), more, body)


def get(path: bytes = b"/health", more: bytes = b"") -> bytes:
    return b"GET %b HTTP/1.1\r\n%b%b\r\n" % (path, HOST, more)
