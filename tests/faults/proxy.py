"""A proxy between two Unix sockets that spoils what the server says, as a file of JSON tells it.

    python proxy.py SOCKET FAULTS COMMAND...

listens on SOCKET, runs COMMAND with ``{engine}`` replaced by a socket of its own, and reads FAULTS anew for
each request: ``{"fault": "reset", "after": 120}``. Requests for paths that are not an answer's pass unspoilt.
Runs as a script: it imports nothing of ours.
"""

import asyncio
import contextlib
import json
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

SPOILT = (b"POST /v1/", b"POST /tokenize")
PIECE = 1 << 16


@dataclass(frozen=True)
class Faults:
    """``after``: bytes of the answer that pass first. ``seconds``: of a delay, or between slices."""

    fault: str = "none"
    after: int = 0
    seconds: float = 0.0

    @classmethod
    def now(cls, file: Path) -> "Faults":
        return cls(**json.loads(file.read_text())) if file.exists() else cls()


class Proxy:
    """Connects each client to the engine, in both directions."""

    def __init__(self, engine: str, faults: Path) -> None:
        self._engine = engine
        self._faults = faults

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            engine_reader, engine_writer = await asyncio.open_unix_connection(self._engine)
        except OSError:
            writer.transport.abort()
            return
        spoilt = asyncio.Event()
        asking = asyncio.create_task(self._ask(reader, engine_writer, spoilt))
        try:
            await self._answer(engine_reader, writer, spoilt)
        except ConnectionError:
            pass
        finally:
            asking.cancel()
            for end in (writer, engine_writer):
                end.transport.abort()

    async def _ask(
        self, reader: asyncio.StreamReader, engine: asyncio.StreamWriter, spoilt: asyncio.Event
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(PIECE):
                if data.startswith(SPOILT):
                    spoilt.set()
                engine.write(data)
                await engine.drain()
            engine.transport.abort()

    async def _answer(
        self, engine: asyncio.StreamReader, writer: asyncio.StreamWriter, spoilt: asyncio.Event
    ) -> None:
        passed = 0
        while data := await engine.read(PIECE):
            faults = Faults.now(self._faults) if spoilt.is_set() else Faults()
            left = max(0, faults.after - passed)
            passed += len(data)
            match faults.fault:
                case "none":
                    writer.write(data)
                case "reset" | "half-close" | "silence" if len(data) <= left:
                    writer.write(data)
                case "reset":
                    writer.write(data[:left])
                    await writer.drain()
                    writer.transport.abort()
                    return
                case "half-close":
                    writer.write(data[:left])
                    writer.write_eof()
                    await asyncio.Event().wait()
                case "silence":
                    writer.write(data[:left])
                    await asyncio.Event().wait()
                case "slices":
                    for at in range(len(data)):
                        writer.write(data[at : at + 1])
                        await asyncio.sleep(0)
                case "delay":
                    await asyncio.sleep(faults.seconds)
                    writer.write(data)
            await writer.drain()


async def main(socket: str, faults: str, command: list[str]) -> int:
    engine = f"{socket}.engine"
    process = await asyncio.create_subprocess_exec(*(part.replace("{engine}", engine) for part in command))
    proxy = Proxy(engine, Path(faults))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, process.terminate)
    async with await asyncio.start_unix_server(proxy.serve, socket):
        return await process.wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3:])))
