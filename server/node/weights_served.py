"""Gives other nodes the weights that this one has in host memory, and the digests of their pieces."""

import asyncio
import contextlib
import mmap
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs

from starlette.types import Scope, Send

from experts.checkpoints.hashing import PIECE_BYTES, digest
from server.errors import BadRequest
from server.transport.streaming import send_end, send_part, send_start

PART_BYTES = 256 * 2**10
"""Bytes that are sent at once: others are served in between."""
_RANGE = re.compile(rb"bytes=(\d+)-(\d+)")


class WeightsServed:
    """Reads the files of experts' copies in host memory. ``copy_of``: the folder of an expert's copy, which
    need not be there."""

    def __init__(self, copy_of: Callable[[str], Path]) -> None:
        self._copy_of = copy_of
        self._sums: dict[tuple[str, int, int], bytes] = {}

    def __repr__(self) -> str:
        return f"<WeightsServed [digests of {len(self._sums)} files]>"

    async def send_sums(self, scope: Scope, send: Send) -> None:
        """Sends the digest of each piece of a file. Raises BadRequest."""
        with self._opened(scope) as file:
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
        with self._opened(scope) as file:
            found, size = _RANGE.fullmatch(asked), os.fstat(file).st_size
            start, end = (int(found[1]), int(found[2]) + 1) if found is not None else (0, 0)
            if not start < end <= size or end - start > PIECE_BYTES:
                raise BadRequest(f"range: {asked.decode('latin-1')} is no piece of a file of {size:,} bytes")
            await _start(send, 206, end - start)
            for at in range(start, end, PART_BYTES):
                await send_part(send, os.pread(file, min(PART_BYTES, end - at), at))
        await send_end(send)

    @contextlib.contextmanager
    def _opened(self, scope: Scope) -> Iterator[int]:
        """Opens a file that is itself in host memory; links lead out of it. Raises BadRequest."""
        fields = parse_qs(scope["query_string"].decode("latin-1"))
        expert, name = fields.get("expert", [""])[0], fields.get("file", [""])[0]
        if not expert or name != Path(name).name or not name.endswith(".safetensors"):
            raise BadRequest("expert and file name weights of an expert")
        try:
            file = os.open(self._copy_of(expert) / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise BadRequest(f"{name} of {expert} is not in host memory: {error.strerror}") from error
        try:
            yield file
        finally:
            os.close(file)


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
