"""Requests that another process passes on whole to the node's application, message by message of ASGI."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp, Message

from server.processes.link import Link
from server.transport.disconnect import DISCONNECT, Disconnect
from server.transport.request_id import REQUEST_ID

log = logging.getLogger("coe.processes")

KEPT = ("type", "asgi", "http_version", "method", "path", "raw_path", "query_string", "root_path", "scheme")
"""Tells a request's scope, with its headers, addresses and id."""
UNREAD = 2**18
"""Bytes of an answer that are on their way to the other process at most."""
_LEFT: Message = {"type": "http.disconnect"}


def told_of(scope: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what the node is told of a request's scope."""
    more = ("headers", "client", "server", REQUEST_ID)
    return {name: scope[name] for name in (*KEPT, *more) if name in scope}


class Forwarded:
    """One such request in the node's process. Messages to its process: ``receive``, ``send``, ``cut`` and
    ``done``, each with its number."""

    def __init__(self, link: Link, number: int, app: ASGIApp, scope: dict[str, Any]) -> None:
        self._link = link
        self._number = number
        self._app = app
        self._disconnect = Disconnect(lambda: link.tell("cut", number))
        self._scope = {**scope, DISCONNECT: self._disconnect, "state": {}}
        self._received: asyncio.Future[Message] | None = None
        self._unread = 0
        self._read = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Forwarded {self._scope['method']} {self._scope['path']}>"

    async def run(self) -> None:
        """Answers it."""
        try:
            await self._app(self._scope, self._receive, self._send)
        except Exception:  # as a server does: the application has answered 500 where it could
            log.exception("a request failed")
        finally:
            self._link.tell("done", self._number)

    def come(self, message: Message) -> None:
        """Takes in what ``receive`` asked for."""
        received, self._received = self._received, None
        if received is not None and not received.done():
            received.set_result(message)

    def read(self, size: int) -> None:
        """Notes that so many bytes have been sent to the client."""
        self._unread -= size
        self._read.set()

    def left(self) -> None:
        """Notes that the client, or its process, is gone."""
        self.come(_LEFT)
        self._unread = 0
        self._read.set()
        self._disconnect.notice()

    async def _receive(self) -> Message:
        if self._disconnect.noticed or self._link.gone:
            return _LEFT
        if self._received is None:
            self._received = asyncio.get_running_loop().create_future()
            self._link.tell("receive", self._number)
        return await asyncio.shield(self._received)

    async def _send(self, message: Message) -> None:
        size = len(message.get("body", b""))
        while self._unread and self._unread + size > UNREAD and not self._disconnect.noticed:
            self._read.clear()
            await self._read.wait()
        self._unread += size
        if size:
            message = {**message, "body": bytes(message["body"])}  # a view of memory cannot be pickled
        self._link.tell("send", self._number, message)
