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
JSON = b"Content-Type: application/json\r\n"


@dataclass(frozen=True, slots=True)
class Reply:
    """One whole answer. ``headers``: small letters; of several with one name the last."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def message(self) -> str:
        """An error's text, in any API's words."""
        error = orjson.loads(self.body)["error"]
        return error if isinstance(error, str) else str(error["message"])

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = orjson.loads(self.body)["error"]
        return error


class Wire:
    """An open connection. What is awaited ends within ``patience_s`` or raises TimeoutError."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, patience_s: float) -> None:
        self._reader = reader
        self._writer = writer
        self._patience_s = patience_s
        self._came = bytearray()

    async def send(self, raw: bytes) -> None:
        """A gateway that has closed is no error: what it said first can be read."""
        with contextlib.suppress(ConnectionError):
            self._writer.write(raw)
            await asyncio.wait_for(self._writer.drain(), self._patience_s)

    def end(self) -> None:
        """Says that nothing more is sent."""
        with contextlib.suppress(OSError):
            self._writer.write_eof()

    def cut(self) -> None:
        self._writer.transport.abort()

    async def more(self, seconds: float) -> bool:
        """Whether bytes are here or come within ``seconds``. False too once the gateway has closed."""
        with contextlib.suppress(TimeoutError):
            return bool(self._came) or await asyncio.wait_for(self._fill(), seconds)
        return False

    async def reply(self) -> Reply | None:
        """The next answer, checked to be well formed; None: the connection was closed before one. Raises
        AssertionError."""
        async with asyncio.timeout(self._patience_s):
            if not self._came and not await self._fill():
                return None
            first, *lines = (await self._until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            version, status, _ = first.split(" ", 2)
            assert version == "HTTP/1.1", first
            if status == "100":
                return await self.reply()
            pairs = (line.partition(": ") for line in lines)
            headers = {name.lower(): value for name, _, value in pairs}
            return Reply(int(status), headers, await self._body(headers))

    async def head(self) -> Reply:
        """The next answer, which has no body as HEAD was asked. Raises AssertionError."""
        async with asyncio.timeout(self._patience_s):
            first, *lines = (await self._until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        return Reply(int(first.split(" ", 2)[1]), headers, b"")

    async def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return await self._exactly(int(headers["content-length"]))
        parts = []
        while size := int(await self._until(b"\r\n"), 16):
            parts.append(await self._exactly(size))
            assert await self._exactly(2) == b"\r\n"
        assert await self._exactly(2) == b"\r\n"
        return b"".join(parts)

    async def closed(self) -> bytes:
        """What came until the gateway closed."""
        async with asyncio.timeout(self._patience_s):
            while await self._fill():
                pass
        return bytes(self._came)

    async def _fill(self) -> bool:
        """False: the gateway has closed."""
        try:
            piece = await self._reader.read(2**16)
        except ConnectionError:
            return False
        self._came += piece
        return bool(piece)

    async def _until(self, mark: bytes) -> bytes:
        while (end := self._came.find(mark)) < 0:
            assert await self._fill(), f"half an answer: {bytes(self._came[:200])!r}"
        found = bytes(self._came[:end])
        del self._came[: end + len(mark)]
        return found

    async def _exactly(self, size: int) -> bytes:
        while len(self._came) < size:
            assert await self._fill(), f"half a body: {bytes(self._came[:200])!r}"
        found = bytes(self._came[:size])
        del self._came[:size]
        return found


@contextlib.asynccontextmanager
async def wire(url: str, patience_s: float = 120.0, tls: ssl.SSLContext | None = None) -> AsyncIterator[Wire]:
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
    head = b"POST %b HTTP/1.1\r\n%b%bContent-Length: %d\r\n%b\r\n"
    return head % (path, HOST, JSON, len(body), more) + body


def get(path: bytes = b"/health", more: bytes = b"") -> bytes:
    return b"GET %b HTTP/1.1\r\n%b%b\r\n" % (path, HOST, more)
