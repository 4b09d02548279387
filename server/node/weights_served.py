"""Gives other nodes the weights that this one has in host memory, and the digests of their pieces.

Of a copy that is being read it gives the pieces that are there, and the others once they come: so a node that
gets an expert passes it on to the next one meanwhile.
"""

import asyncio
import contextlib
import mmap
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs

from starlette.types import Scope, Send

from experts.checkpoints.hashing import PIECE_BYTES, digest
from memory_tiers.driver.arriving import Arriving
from server.errors import BadRequest
from server.peers.wire import COMING
from server.transport.streaming import send_end, send_part, send_start

PART_BYTES = 256 * 2**10
"""Bytes that are sent at once: others are served in between."""
WAIT_S = 2.0
"""Most seconds that a piece is waited for."""
LOOK_S = 0.002
"""Seconds after which it is looked for again."""
_RANGE = re.compile(rb"bytes=(\d+)-(\d+)")


class WeightsServed:
    """Reads the files of experts' copies in host memory. ``copy_of``: the folder of an expert's copy, which
    need not be there; ``arriving``: the copy of an expert that is being read, if one is."""

    def __init__(self, copy_of: Callable[[str], Path], arriving: Callable[[str], Arriving | None]) -> None:
        self._copy_of = copy_of
        self._arriving = arriving
        self._sums: dict[tuple[str, int, int], bytes] = {}

    def __repr__(self) -> str:
        return f"<WeightsServed [digests of {len(self._sums)} files]>"

    async def send_sums(self, scope: Scope, send: Send) -> None:
        """Sends the digest of each piece of a file. Raises BadRequest."""
        expert, name = _wanted(scope)
        with _closing(_opened(self._copy_of(expert) / name, expert)) as file:
            found = os.fstat(file)
            key = (_named(scope), found.st_ino, found.st_mtime_ns)
            sums = self._sums.get(key)
            if sums is None:
                sums = await asyncio.to_thread(_sums, file)
                self._sums = {**dict([*self._sums.items()][-255:]), key: sums}
        await _start(send, 200, len(sums))
        await send_end(send, sums)

    async def send_range(self, scope: Scope, send: Send) -> None:
        """Sends a range of a file. Raises BadRequest."""
        asked = next((value for name, value in scope["headers"] if name == b"range"), b"")
        found = _RANGE.fullmatch(asked)
        start, end = (int(found[1]), int(found[2]) + 1) if found is not None else (0, 0)
        with _closing(await self._opened_with(start, scope)) as file:
            size = os.fstat(file).st_size
            if not start < end <= size or end - start > PIECE_BYTES:
                raise BadRequest(f"range: {asked.decode('latin-1')} is no piece of a file of {size:,} bytes")
            await _start(send, 206, end - start)
            for at in range(start, end, PART_BYTES):
                await send_part(send, os.pread(file, min(PART_BYTES, end - at), at))
        await send_end(send)

    async def _opened_with(self, start: int, scope: Scope) -> int:
        """Opens the file that is asked for once it has the piece which begins at ``start``. Raises
        BadRequest."""
        (expert, name), ordered = _wanted(scope), COMING in _fields(scope)
        until = time.monotonic() + WAIT_S
        while True:
            coming = self._arriving(expert)
            places = [self._copy_of(expert)]
            if coming is not None and coming.has(name, start // PIECE_BYTES) and not start % PIECE_BYTES:
                places.append(coming.folder)
            for place in places:
                try:
                    return _opened(place / name, expert)
                except BadRequest as error:
                    missing = error  # or it has got its final name just now
            if time.monotonic() > until or (coming is None and not ordered):
                raise missing
            await asyncio.sleep(LOOK_S)


def _opened(path: Path, expert: str) -> int:
    """Opens a file that is itself in host memory; links lead out of it. Raises BadRequest."""
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise BadRequest(f"{path.name} of {expert} is not in host memory: {error.strerror}") from error


@contextlib.contextmanager
def _closing(file: int) -> Iterator[int]:
    try:
        yield file
    finally:
        os.close(file)


def _fields(scope: Scope) -> dict[str, list[str]]:
    return parse_qs(scope["query_string"].decode("latin-1"))


def _wanted(scope: Scope) -> tuple[str, str]:
    """Returns the expert and the name of the file that are asked for. Raises BadRequest."""
    fields = _fields(scope)
    expert, name = fields.get("expert", [""])[0], fields.get("file", [""])[0]
    if not expert or name != Path(name).name or not name.endswith(".safetensors"):
        raise BadRequest("expert and file name weights of an expert")
    return expert, name


def _named(scope: Scope) -> str:
    return str(scope["query_string"])


async def _start(send: Send, status: int, size: int) -> None:
    await send_start(send, status, {"content-type": "application/octet-stream", "content-length": str(size)})


def _sums(file: int) -> bytes:
    size = os.fstat(file).st_size
    if not size:
        return b""
    with mmap.mmap(file, size, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as view:
        pieces = range(0, size, PIECE_BYTES)
        sums = []
        for at in pieces:
            with view[at : at + PIECE_BYTES] as piece:
                sums.append(digest(piece))
        return b"".join(sums)
