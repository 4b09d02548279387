"""The link between the node's process and a gateway process that it has started: messages over a pair of
sockets, which nobody else can open."""

import asyncio
import itertools
import pickle
import struct
from collections.abc import Callable
from typing import Any, cast

Message = tuple[Any, ...]
"""The name of what is told, and its arguments."""
_LENGTH = struct.Struct(">I")
ANSWER, FAILED, CANCEL = "answer", "failed", "cancel"


class LinkLost(Exception):
    """The process at the other end is gone."""


class Link(asyncio.Protocol):
    """One end. What one turn of the event loop tells goes out at once, in one piece, in its order.

    Messages are pickled: both ends are this program, the sockets are a pair without a name, and the file
    descriptors are inherited, so there is nobody else to unpickle for.
    """

    def __init__(self, take: Callable[[Message], None], lost: Callable[[], None]) -> None:
        """``take`` is told each message, in order, that is no answer to a ``call``; ``lost`` the end."""
        self._take = take
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._going: list[Message] = []
        self._come = bytearray()
        self._numbers = itertools.count(1)
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._writable = asyncio.Event()
        self._writable.set()
        self._ended = asyncio.Event()
        self.gone = False

    def __repr__(self) -> str:
        return f"<Link{' gone' if self.gone else ''}, {len(self._calls)} calls under way>"

    def number(self) -> int:
        """Returns a number that was never given before by this end."""
        return next(self._numbers)

    def tell(self, *message: Any) -> None:
        """Sends a message; returns at once. Where the other end is gone it does nothing."""
        if self.gone:
            return
        if not self._going:
            asyncio.get_running_loop().call_soon(self.flush)
        self._going.append(message)

    def tell_from_anywhere(self, *message: Any) -> None:
        """Sends a message also where another thread has it to tell."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self.tell, *message)
        else:
            self.tell(*message)

    async def call(self, name: str, *arguments: Any) -> Any:
        """Sends a question, and waits for its answer. A caller that is cancelled has the other end told so.
        Raises what the other end does, and LinkLost."""
        if self.gone:
            raise LinkLost("the node's process is gone")
        number = self.number()
        answer = self._calls[number] = asyncio.get_running_loop().create_future()
        self.tell(name, number, *arguments)
        try:
            return await answer
        except asyncio.CancelledError:
            self.tell(CANCEL, number)
            raise
        finally:
            del self._calls[number]

    @property
    def full(self) -> bool:
        """Whether the other end has much to read yet."""
        return not self._writable.is_set()

    async def writable(self) -> None:
        """Waits while the other end has much to read yet."""
        await self._writable.wait()

    def flush(self) -> None:
        going, self._going = self._going, []
        if not going or self._transport is None or self.gone:
            return
        content = pickle.dumps(going, pickle.HIGHEST_PROTOCOL)
        self._transport.write(_LENGTH.pack(len(content)) + content)

    def close(self) -> None:
        """Sends what was told, and ends the link."""
        self.flush()
        if self._transport is not None:
            self._transport.close()

    async def finish(self) -> None:
        """Ends the link once all that was told has been taken over by the other end's system."""
        self.close()
        await self.ended()

    async def ended(self) -> None:
        """Waits for the end of the link, after all that came over it was taken in."""
        if self._transport is not None:
            await self._ended.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        self._come += data
        begin = 0
        while len(self._come) - begin >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._come, begin)
            end = begin + _LENGTH.size + length
            if len(self._come) < end:
                break
            content = bytes(memoryview(self._come)[begin + _LENGTH.size : end])
            begin = end
            for message in pickle.loads(content):  # noqa: S301  # of our own process: see the class
                self._one(message)
        del self._come[:begin]

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, error: Exception | None) -> None:
        self.gone = True
        self._writable.set()
        for answer in self._calls.values():
            if not answer.done():
                answer.set_exception(LinkLost("the process at the other end is gone"))
        self._ended.set()
        self._lost()

    def _one(self, message: Message) -> None:
        if message[0] == ANSWER or message[0] == FAILED:
            answer = self._calls.get(message[1])
            if answer is not None and not answer.done():
                if message[0] == ANSWER:
                    answer.set_result(message[2])
                else:
                    answer.set_exception(message[2])
        else:
            self._take(message)


def sendable(error: Exception) -> Exception:
    """Returns an error that the other end can read: itself, or its text."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  # our own
    except Exception:  # noqa: BLE001  # whatever its class needs to be made anew
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
