"""Stored responses, files and batches that another node has: asked of it where they are not found here."""

import contextlib
import logging
import re
from collections.abc import Callable
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from experts.engines.http_connection import ConnectionEnded
from experts.errors import EngineUnavailable
from server.error_table import error_response
from server.errors import GatewayError
from server.peers.peer import Peer
from server.peers.peers import Peers
from server.peers.wire import ClientAnswer, ClientRequest
from server.transport.body_limits import read_body
from server.transport.disconnect import DISCONNECT, Disconnect, while_connected
from server.transport.streaming import send_end, send_part

log = logging.getLogger("coe.cluster")

_KEPT = re.compile(r"/v1/(responses|files|batches)/[^/]+(/[a-z_]+)?")
"""Paths of what one node keeps."""
_KEPT_BY_NODES = re.compile(r"/v1/(responses|files|batches)(/.*)?")
"""Paths of all that nodes keep, which a gateway without engines leaves to them."""
_MADE_FROM = {"/v1/batches": b'"input_file_id"', "/v1/responses": b'"previous_response_id"'}
"""Paths at which something is made of what one node keeps, and the field that names it."""
_NO_PREVIOUS = b'"previous_response_not_found"'
_NOT_FOUND = frozenset({401, 403, 404})
"""Statuses by which another node says that it has nothing for this client: its key may be unknown there."""
_HOP = frozenset({b"connection", b"transfer-encoding", b"keep-alive", b"date", b"server", b"x-request-id"})


class KeptElsewhere:
    """ASGI application around another, which does not know of nodes. A request for what is not kept here is
    asked again of the other nodes, one after another, in the name of its client; the first that has it
    answers. Where none has, the answer is this node's. A gateway without engines keeps nothing: its nodes
    are asked first of all."""

    def __init__(self, app: ASGIApp, peers: Callable[[], Peers | None], max_body: int) -> None:
        """``max_body``: most bytes of a body that a gateway without engines passes on."""
        self._app = app
        self._peers = peers
        self._max_body = max_body

    def __repr__(self) -> str:
        return f"<KeptElsewhere around {self._app!r}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kept = scope["type"] == "http" and _KEPT_BY_NODES.fullmatch(scope["path"])
        peers = self._peers() if kept else None
        if peers is not None and peers.here.gateway:
            await self._leave_to_nodes(peers, scope, receive, send)
            return
        field = _MADE_FROM.get(scope["path"]) if scope.get("method") == "POST" else None
        if peers is None or not (field or _KEPT.fullmatch(scope["path"])) or not peers.with_engines:
            await self._app(scope, receive, send)
            return
        heard, answer = _Heard(receive), _Answer(send)
        await self._app(scope, heard.receive, answer.send)
        if answer.held is None:
            return
        if (field is None or field in heard.body) and answer.not_found:
            work = self._ask(peers, scope, bytes(heard.body), answer, send)
            await while_connected(work, scope[DISCONNECT])
        else:
            await answer.give(send)

    async def _leave_to_nodes(self, peers: Peers, scope: Scope, receive: Receive, send: Send) -> None:
        """Has a node answer. That none has what is asked for, the last one says."""
        try:
            body = await read_body(Request(scope, receive), self._max_body)
        except ClientDisconnect:
            return
        except GatewayError as error:
            await error_response(error, scope["path"])(scope, receive, send)
            return
        nodes = peers.with_engines
        asked = _asked_by_client(scope, body)

        async def ask() -> None:
            failed = EngineUnavailable("No node answers this gateway.")
            for number, peer in enumerate(nodes, 1):
                try:
                    last = number == len(nodes)
                    if await _passed_on(peer, asked, body, send, scope[DISCONNECT], whatever=last):
                        return
                except EngineUnavailable as error:
                    failed = error
            await error_response(failed, scope["path"])(scope, receive, send)

        await while_connected(ask(), scope[DISCONNECT])

    async def _ask(self, peers: Peers, scope: Scope, body: bytes, answer: "_Answer", send: Send) -> None:
        asked = _asked_by_client(scope, body)
        for peer in peers.with_engines:
            try:
                if await _passed_on(peer, asked, body, send, scope[DISCONNECT]):
                    return
            except EngineUnavailable as error:
                log.warning("what is kept may be on a node that does not answer: %s", error)
        await answer.give(send)


def _asked_by_client(scope: Scope, body: bytes) -> ClientRequest:
    query = f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else ""
    return ClientRequest(
        method=scope["method"],
        target=scope["raw_path"].decode("latin-1") + query,
        headers=tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]),
        size=len(body),
    )


async def _passed_on(
    peer: Peer,
    asked: ClientRequest,
    body: bytes,
    send: Send,
    disconnect: Disconnect,
    *,
    whatever: bool = False,
) -> bool:
    """Asks one node; returns whether it had what was asked for. ``whatever``: also what it says where it has
    not is passed on. Raises EngineUnavailable before the answer has begun; one that ends in its middle is
    cut."""
    answer = await peer.ask_for_client(asked, body)
    with contextlib.closing(answer.response):
        if answer.head.status in _NOT_FOUND and not whatever:
            return False
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.head.headers]
        kept = [(name, value) for name, value in headers if name.lower() not in _HOP]
        first = answer.rest or await _more(answer.response)
        if _NO_PREVIOUS in first and answer.head.status == 400 and not whatever:
            return False
        await send({"type": "http.response.start", "status": answer.head.status, "headers": kept})
        try:
            while first:
                await send_part(send, first)
                first = await _more(answer.response)
        except EngineUnavailable as error:
            log.warning("node %s goes away in the middle of what it keeps: %s", peer.address, error)
            disconnect.cut()  # by which the client knows
            return True
        await send_end(send)
        return True


async def _more(response: Any) -> bytes:
    """Raises EngineUnavailable."""
    try:
        more: bytes = await response.read_any()
    except ConnectionEnded as error:
        raise EngineUnavailable(str(error)) from error
    return more


class _Heard:
    """Keeps the body that the application reads."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.body = bytearray()

    async def receive(self) -> Message:
        message = await self._receive()
        self.body += message.get("body", b"")
        return message


class _Answer:
    """Passes an answer on, but one that says that something is not kept here, which it holds back."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.held: list[Message] | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] in (400, 404):
            self.held = []
        if self.held is None:
            await self._send(message)
        else:
            self.held.append(message)

    @property
    def not_found(self) -> bool:
        """Whether what is held says so."""
        held = self.held or []
        return any(each.get("status") == 404 or _NO_PREVIOUS in each.get("body", b"") for each in held)

    async def give(self, send: Send) -> None:
        for message in self.held or ():
            await send(message)


class ForClients:
    """The other side: answers a client's request that another node asks again, with this node's
    application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __repr__(self) -> str:
        return f"<ForClients {self._app!r}>"

    async def answer(
        self, asked: ClientRequest, body: bytes, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """``scope`` and ``receive``: of the node's own request, whose body was read."""
        path, _, query = asked.target.partition("?")
        its_own = {
            **scope,
            "method": asked.method,
            "path": path,
            "raw_path": path.encode("latin-1"),
            "query_string": query.encode("latin-1"),
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in asked.headers],
            "state": {},
        }
        read = False

        async def own_body() -> Message:
            nonlocal read
            if read:
                return await receive()  # once the other node has left
            read = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                head = {
                    "status": message["status"],
                    "headers": [
                        (name.decode("latin-1"), value.decode("latin-1"))
                        for name, value in message["headers"]
                    ],
                }
                await send(_START)
                await send_part(send, ClientAnswer.model_validate(head).model_dump_json().encode() + b"\n")
            else:
                await send(message)

        await self._app(its_own, own_body, told)


_START: Message = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/octet-stream")],
}
