"""A link between nodes that a test cuts and heals."""

import asyncio
import contextlib


class Link:
    """A link between nodes that can be cut: bytes are held then, as by a network that lost them."""

    def __init__(self) -> None:
        self.whole = asyncio.Event()
        self.whole.set()
        self._writers: list[asyncio.StreamWriter] = []

    async def pass_on(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        their_reader, their_writer = await asyncio.open_connection("127.0.0.1", port)
        self._writers += [writer, their_writer]
        await asyncio.gather(self._copy(reader, their_writer), self._copy(their_reader, writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(2**16):
                await self.whole.wait()
                writer.write(piece)
        writer.close()

    def close(self) -> None:
        self.whole.set()
        for writer in self._writers:
            writer.close()
