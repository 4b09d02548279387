"""A client's end of a connection in memory: it sends bytes in pieces, reads slowly, leaves at any byte."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

HIGH_WATER = 4096
"""Bytes that the gateway may write beyond what the client has read before it is told to pause."""


class ServerProtocol(Protocol):
    """Callbacks of a connection's server side, as its transport calls them."""

    def connection_made(self, transport: asyncio.Transport) -> None: ...
    def data_received(self, data: bytes) -> None: ...
    def eof_received(self) -> object: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class MemoryTransport(asyncio.Transport):
    """The gateway's side: what it writes waits until the client reads it."""

    def __init__(self, wire: "Wire") -> None:
        super().__init__({"peername": ("127.0.0.1", 40000), "sockname": ("127.0.0.1", 8000)})
        self._wire = wire

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._wire.written(bytes(data))

    def close(self) -> None:
        self._wire.server_closes(abort=False)

    def abort(self) -> None:
        self._wire.server_closes(abort=True)

    def is_closing(self) -> bool:
        return self._wire.closing

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._wire.eof.set()

    def pause_reading(self) -> None:
        self._wire.readable.clear()

    def resume_reading(self) -> None:
        self._wire.readable.set()

    def get_write_buffer_size(self) -> int:
        return self._wire.unread

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


@dataclass(slots=True, eq=False)
class Wire:
    """``received``: all that the client has read. ``left``: the client has gone."""

    loop: asyncio.AbstractEventLoop
    protocol: ServerProtocol
    received: bytearray = field(default_factory=bytearray)
    closing: bool = False
    left: bool = False
    eof: asyncio.Event = field(default_factory=asyncio.Event)
    readable: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _buffer: bytearray = field(default_factory=bytearray)
    _paused: bool = False
    _lost: bool = False

    @classmethod
    def to(cls, loop: asyncio.AbstractEventLoop, protocol: Any) -> "Wire":
        wire = cls(loop, cast(ServerProtocol, protocol))
        wire.readable.set()
        wire.protocol.connection_made(MemoryTransport(wire))
        return wire

    @property
    def unread(self) -> int:
        return len(self._buffer)

    @property
    def over(self) -> bool:
        """Nothing more will come."""
        return (self._lost or self.eof.is_set() or self.closing) and not self._buffer

    async def send(self, data: bytes) -> None:
        await self.readable.wait()
        if not (self._lost or self.closing):
            self.protocol.data_received(data)

    def read(self, most: int) -> bytes:
        """Takes bytes that have come, at most so many."""
        taken = bytes(self._buffer[:most])
        del self._buffer[:most]
        self.received += taken
        if self._paused and len(self._buffer) <= HIGH_WATER // 2:
            self._paused = False
            self.protocol.resume_writing()
        if self.closing and not self._buffer:
            self._lose(None)
        return taken

    def leave(self, *, reset: bool) -> None:
        """The client goes, by a reset or as a socket is closed."""
        self.left = True
        if not self._lost:
            if not reset:
                self.protocol.eof_received()
            self._lose(ConnectionResetError("reset by the simulated client") if reset else None)

    def written(self, data: bytes) -> None:
        if self._lost or self.closing:
            return
        self._buffer += data
        self.arrived.set()
        if len(self._buffer) > HIGH_WATER and not self._paused:
            self._paused = True
            self.protocol.pause_writing()

    def server_closes(self, *, abort: bool) -> None:
        self.closing = True
        if abort:
            self._buffer.clear()
        self.arrived.set()
        if not self._buffer:
            self._lose(None)

    def _lose(self, error: Exception | None) -> None:
        if not self._lost:
            self._lost = True
            self.arrived.set()
            self._soon(lambda: self.protocol.connection_lost(error))

    def _soon(self, work: Callable[[], None]) -> None:
        self.loop.call_soon(work)
