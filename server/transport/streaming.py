"""Bytes on their way to the client."""

from collections.abc import Awaitable, Mapping

from starlette.types import Send

SSE = "text/event-stream; charset=utf-8"
SSE_HEADERS: Mapping[str, str] = {
    "content-type": SSE,
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # nginx passes events on as they come
}

NDJSON_HEADERS: Mapping[str, str] = {**SSE_HEADERS, "content-type": "application/x-ndjson"}


def send_start(send: Send, status: int, headers: Mapping[str, str]) -> Awaitable[None]:
    raw = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers.items()]
    return send({"type": "http.response.start", "status": status, "headers": raw})


def send_part(send: Send, chunk: bytes) -> Awaitable[None]:
    return send({"type": "http.response.body", "body": chunk, "more_body": True})


def send_end(send: Send, body: bytes = b"") -> Awaitable[None]:
    return send({"type": "http.response.body", "body": body, "more_body": False})
