"""One request and its answer on a connection: uvicorn's cycle, in fewer steps and fewer writes."""

import asyncio
import urllib.parse
from collections.abc import Iterable
from functools import lru_cache

import httptools
from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    HEADER_VALUE_RE,
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)


class Cycle(RequestResponseCycle):
    """Cycle of a request in which a head of known body length waits for the body, so that both are sent at
    once."""

    _held = b""

    @classmethod
    def of(cls, connection: HttpToolsProtocol, *headers: tuple[bytes, bytes]) -> "Cycle":
        """Returns the cycle of the request whose headers are complete. ``headers``: added to any answer.
        Raises HttpParserError."""
        parser, scope = connection.parser, connection.scope
        url, version = httptools.parse_url(connection.url), parser.get_http_version()
        path = url.path.decode("ascii")
        scope["method"] = parser.get_method().decode("ascii")
        scope["http_version"] = version
        scope["path"] = connection.root_path + (urllib.parse.unquote(path) if "%" in path else path)
        scope["raw_path"] = connection.root_path.encode("ascii") + url.path
        scope["query_string"] = url.query or b""
        return cls(
            scope=scope,
            transport=connection.transport,
            flow=connection.flow,
            logger=connection.logger,
            access_logger=connection.access_logger,
            access_log=False,
            default_headers=[*connection.server_state.default_headers, *headers],
            message_event=asyncio.Event(),
            expect_100_continue=connection.expect_100_continue,
            keep_alive=version != "1.0" and parser.should_keep_alive(),
            on_response=connection.on_response_complete,
        )

    async def send(self, message: Message) -> None:  # type: ignore[override]  # is called with dicts
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        kind = message["type"]
        if kind == "http.response.body" and self.response_started and not self.response_complete:
            self._body(message.get("body", b""), more=message.get("more_body", False))
        elif kind == "http.response.start" and not self.response_started:
            self._start(message["status"], message.get("headers", ()))
        else:
            raise RuntimeError(f"{kind} comes at the wrong time")

    def _start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.response_started = True
        self.waiting_for_100_continue = False
        head, values = [STATUS_LINE[status]], []
        closes = False
        for name, value in (*self.default_headers, *headers):
            field = _field(name)
            if field == b"content-length: " and self.chunked_encoding is None:
                self.expected_content_length, self.chunked_encoding = int(value), False
            elif field == b"transfer-encoding: " and value.lower() == b"chunked":
                self.expected_content_length, self.chunked_encoding = 0, True
            elif field == b"connection: " and b"close" in value.lower():
                self.keep_alive, closes = False, True
            head += (field, value, b"\r\n")
            values.append(value)
        if HEADER_VALUE_RE.search(b" ".join(values)):
            raise RuntimeError("Invalid HTTP header value.")
        if not self.keep_alive and not closes:
            head.append(b"connection: close\r\n")
        if self.chunked_encoding is None and self.scope["method"] != "HEAD" and status not in (204, 304):
            self.chunked_encoding = True
            head.append(b"transfer-encoding: chunked\r\n")
        head.append(b"\r\n")
        self._held = b"".join(head)
        if self.chunked_encoding:
            self._write(b"")

    def _body(self, body: bytes, *, more: bool) -> None:
        if self.scope["method"] == "HEAD":
            self.expected_content_length = 0
            self._write(b"")
        elif self.chunked_encoding:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            self._write(chunk if more else chunk + b"0\r\n\r\n")
        else:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0:
                raise RuntimeError("Response content longer than Content-Length")
            self._write(body)
        if more:
            return
        if self.expected_content_length:
            raise RuntimeError("Response content shorter than Content-Length")
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()

    def _write(self, content: bytes) -> None:
        """Writes the content, after the head if that was held back."""
        if self._held:
            content, self._held = self._held + content, b""
        if content:
            self.transport.write(content)


@lru_cache(maxsize=256)
def _field(name: bytes) -> bytes:
    """Returns the beginning of a header's line. Raises RuntimeError."""
    if HEADER_RE.search(name):
        raise RuntimeError("Invalid HTTP header name.")
    return name.lower() + b": "
