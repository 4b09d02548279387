"""Passes requests on whole to the node, which answers them: all that is not a model's answer."""

import asyncio
from typing import Any

from starlette.types import Receive, Scope, Send

from server.processes.forwarded import told_of
from server.processes.link import Link, LinkLost
from server.transport.disconnect import DISCONNECT, Disconnect, while_connected


class PassedOn:
    """ASGI application. The node asks for each part of a request, and gives the parts of its answer."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._open: dict[int, asyncio.Queue[tuple[Any, ...]]] = {}

    def __repr__(self) -> str:
        return f"<PassedOn [under way: {len(self._open)}]>"

    def take(self, number: int, *message: Any) -> None:
        """Takes in what the node says of a request."""
        if number in self._open:
            self._open[number].put_nowait(message)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        number, disconnect = self._link.number(), scope[DISCONNECT]
        said = self._open[number] = asyncio.Queue()
        self._link.tell("asgi", number, told_of(scope))
        try:
            stayed = await while_connected(self._pass_on(number, said, disconnect, receive, send), disconnect)
            if not stayed:
                self._link.tell("left", number)
        except BaseException:
            self._link.tell("left", number)
            raise
        finally:
            del self._open[number]

    async def _pass_on(
        self,
        number: int,
        said: asyncio.Queue[tuple[Any, ...]],
        disconnect: Disconnect,
        receive: Receive,
        send: Send,
    ) -> None:
        receiving: set[asyncio.Task[None]] = set()
        try:
            while True:
                match await said.get():
                    case ("receive",):
                        task = asyncio.create_task(self._receive(number, receive))
                        receiving.add(task)
                        task.add_done_callback(receiving.discard)
                    case ("send", message):
                        await send(message)
                        self._link.tell("read", number, len(message.get("body", b"")))
                    case ("cut",):
                        disconnect.cut()
                    case ("done",):
                        return
                    case ("lost",):
                        raise LinkLost("the node's process is gone")
        finally:
            for task in receiving:
                task.cancel()

    async def _receive(self, number: int, receive: Receive) -> None:
        message = await receive()
        await self._link.writable()
        self._link.tell("come", number, message)
