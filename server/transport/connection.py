"""One client's connection: what may arrive on it, in which order, and how long that may take."""

import asyncio
import http
import time
from typing import Any, Literal

import httptools
from uvicorn.config import Config
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from server.config.limits import LimitsConfig
from server.error_table import error_body, failure_of, retry_after
from server.errors import (
    BadRequest,
    GatewayError,
    HeadersTooLarge,
    NotSpoken,
    Overloaded,
    TooSlow,
    UrlTooLong,
)
from server.transport.disconnect import DISCONNECT, Disconnect
from server.transport.request_id import HEADER, REQUEST_ID, request_id
from server.transport.response_cycle import Cycle

LINGER_S = 5.0
"""Seconds that a refused client may go on sending: one that is cut off at once may never read why."""


class Connection(HttpToolsProtocol):
    """HTTP connection over llhttp that refuses most of what two servers may read as two different requests.
    It adds to uvicorn's protocol limits, time-outs, checks that llhttp lacks, errors in OpenAI's words, and
    the request's id in every answer.

    One request at a time: what a client sends before it has its answer is thrown away, and the connection
    closed after that answer. So nothing is queued here, and a client that leaves is noticed. (uvicorn queues
    pipelined requests without bound, and stops reading, which is how it would notice.)
    """

    def __init__(
        self,
        limits: LimitsConfig,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.limits = limits
        self.timeout_keep_alive = limits.idle_s  # type: ignore[assignment]  # a float will do
        self._reading: Literal["nothing", "headers", "body"] = "nothing"
        self._deaf = False  # nothing more that arrives is read
        self._last = False  # the next answer is the last one
        self._headers_bytes = 0  # of headers that are not complete yet
        self._body_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None  # for what is being read
        self._stall: asyncio.TimerHandle | None = None
        self._disconnect = Disconnect()  # of who asked what is read or answered
        app = self.app
        self._unproxied = app.app if isinstance(app, ProxyHeadersMiddleware) else app
        """The application past what reads a proxy's headers: most requests have none."""

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def close_after_answer(self) -> None:
        """Has the connection end after the answer that is under way, or the next one."""
        self._last = True
        if self._answering:
            self.cycle.keep_alive = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            self._deaf = True
            self._tell(Overloaded("Too many connections are open; try again in a moment."))
            transport.close()
            return
        self._expect(self.limits.headers_s, self._headers_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        self._unset_keepalive_if_required()
        if self._stall is not None:
            self._stall.cancel()
        super().connection_lost(exc)
        if self._answering:
            self._disconnect.notice()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._unset_keepalive_if_required()
        before = self._reading
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            self._refuse(error.__context__)
        else:
            if self._reading == "headers" and before != "body":
                self._headers_bytes += len(data)
                if self._headers_bytes > self.limits.headers + self.limits.url:
                    self._refuse(self._headers_too_large())
            if self._deadline is None and not self._deaf:
                self._expect_more()

    def _feed(self, data: bytes) -> None:
        """Feeds bytes to the parser. Raises HttpParserError."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            again = self._declined()
            self.parser = httptools.HttpRequestParser(self)
            self.parser.feed_data(again + data[offer.args[0] :])

    def _declined(self) -> bytes:
        """Returns the head of a request that offers another protocol, without the offer, to be read again:
        what follows it, its body too, was not read. Java's client offers HTTP/2 with its first request."""
        lines = [b"%b %b HTTP/1.1" % (self.parser.get_method(), self.url)]
        lines += [
            b"%b: %b" % header for header in self.headers if header[0] not in (b"connection", b"upgrade")
        ]
        return b"\r\n".join([*lines, b"", b""])

    def _expect_more(self) -> None:
        if self._reading == "body":
            if not self.cycle.response_complete:
                started, self._body_bytes = time.monotonic(), len(self.cycle.body)
                self._expect(self.limits.body_s, lambda: self._body_late(started))
        elif self._reading == "headers" or not self._answering:
            self._expect(self.limits.headers_s, self._headers_late)

    # What the parser calls. What these raise comes out of feed_data as the context of an HttpParserError.

    def on_message_begin(self) -> None:
        if self._answering:
            raise BadRequest("A request came before the one in front of it was answered.")
        super().on_message_begin()
        self._reading = "headers"
        self._headers_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keeps a header. Trailers, which come after the body, are dropped: no proxy in front has checked
        them."""
        if self._reading != "headers":
            return
        if len(self.headers) >= self.limits.header_count:
            raise self._headers_too_large()
        name = name.lower()
        if name == b"expect":
            self.expect_100_continue = value.lower() == b"100-continue"
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        forwarded = self._check_headers()
        if self.parser.should_upgrade():
            return
        self._expect_nothing()
        self._reading = "body"
        self.scope[REQUEST_ID] = request_id(self.headers)  # type: ignore[literal-required]
        self._disconnect = self.scope[DISCONNECT] = Disconnect(self.transport.abort)  # type: ignore[literal-required]
        self.cycle = Cycle.of(self, (HEADER, self._request_id().encode()))
        if self._last:
            self.cycle.keep_alive = False
        self._start_asgi_task(self.cycle, self.app if forwarded else self._unproxied)

    def _check_headers(self) -> bool:
        """Checks the request's headers, and tells whether a proxy may have forwarded it. Raises BadRequest,
        HeadersTooLarge, NotSpoken, UrlTooLong."""
        if self.parser.get_method() == b"CONNECT":
            raise NotSpoken("This is no proxy.")
        version = self.parser.get_http_version()
        size = hosts = 0
        forwarded = False
        for name, value in self.headers:
            size += len(name) + len(value)
            if name == b"host":
                hosts += 1
            elif name == b"transfer-encoding" and (version == "1.0" or value.strip().lower() != b"chunked"):
                raise NotSpoken("Of transfer encodings 'chunked' alone is taken, and from HTTP/1.1 on.")
            elif name.startswith(b"x-forwarded-"):
                forwarded = True
        if version not in ("1.0", "1.1"):
            raise NotSpoken("HTTP/1.1 and HTTP/1.0 are served here.")
        if len(self.url) > self.limits.url:
            raise UrlTooLong(f"The URL is longer than {int(self.limits.url)} bytes.")
        if size > self.limits.headers:
            raise self._headers_too_large()
        if hosts > 1 or (hosts == 0 and version == "1.1"):
            raise BadRequest("A request needs one Host header.")
        return forwarded

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._reading == "headers":  # with an offer of another protocol
            return
        self._reading = "nothing"
        self._expect_nothing()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._reading == "body":  # of a request that was refused: its client may be sending still
            self._expect(LINGER_S, self.transport.close)

    # Refusals

    def _headers_too_large(self) -> HeadersTooLarge:
        limits = self.limits
        return HeadersTooLarge(
            f"The headers have more than {int(limits.headers)} bytes, or are more than {limits.header_count}."
        )

    def _refuse(self, error: BaseException | None) -> None:
        """Ends the connection, with an answer that says why where one can still be given."""
        if self._answering and self._reading == "nothing":
            self._last_request()  # what is answered came whole; what came after it is not read
            return
        self._deaf = True
        self._expect_nothing()
        if not isinstance(error, GatewayError):
            error = BadRequest("This is not HTTP/1.1 as RFC 9112 has it, or it could be read in two ways.")
        told = self.cycle.response_started if self._answering else False
        if self._answering:  # its body is broken: to its reader the client has left
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if not told:
            self._tell(error)
        self._leave()

    def _last_request(self) -> None:
        """Closes the connection after the answer to the request under way. Later data is thrown away."""
        self._deaf = True
        self.cycle.keep_alive = False
        if self.cycle.response_complete:
            self._leave()

    def _tell(self, error: GatewayError) -> None:
        failure = failure_of(error)
        body = error_body(failure)
        headers = {
            "content-type": "application/json",
            "content-length": str(len(body)),
            "connection": "close",
            HEADER.decode(): self._request_id(),
            **retry_after(error),
        }
        lines = [f"HTTP/1.1 {failure.status} {http.HTTPStatus(failure.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)

    def _request_id(self) -> str:
        """The id of the request that is read; where none is, a new one."""
        match self._reading:
            case "body":
                return str(self.scope[REQUEST_ID])  # type: ignore[literal-required]
            case "headers":
                return request_id(self.headers)
            case "nothing":
                return request_id(())

    def _leave(self) -> None:
        """Ends the sending side, and gives the client a moment to read and to close."""
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self._expect(LINGER_S, self.transport.abort)
        else:
            self.transport.close()

    # Time

    def _expect(self, seconds: float, otherwise: Any) -> None:
        self._expect_nothing()
        self._deadline = self.loop.call_later(seconds, otherwise)

    def _expect_nothing(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _headers_late(self) -> None:
        if self._reading == "headers":
            self._refuse(TooSlow(f"The headers did not come within {self.limits.headers_s:g} s."))
        else:
            self.transport.close()  # nothing was asked, so nothing is answered

    def _body_late(self, started: float) -> None:
        """Refuses a body that is late. The deadline moves on with each byte that arrives, and while the
        gateway itself does not read."""
        limits = self.limits
        left = started + limits.body_s + self._body_bytes / limits.body_rate - time.monotonic()
        if self.flow.read_paused:
            now = time.monotonic()
            self._expect(limits.body_s, lambda: self._body_late(now))
        elif left > 0:
            self._expect(left, lambda: self._body_late(started))
        else:
            self._refuse(TooSlow(f"The body came too slowly: less than {int(limits.body_rate)} bytes/s."))

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall = self.loop.call_later(self.limits.stall_s, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
