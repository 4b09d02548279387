"""The format of an image file: an expert's weights in the engine's form, in shared memory.

Layout: 32 bytes (magic, where the header is, how long it is, its checksum), from byte 4096 on the blocks of
weights, each aligned for the device, then the header in JSON. Weights come in chunks with a checksum
(XXH3, 64 bits) each. A file has its name only once it is complete, so one that was cut off does not exist.

Files are written by ``pwrite`` only, and mapped only when every page has been written: where memory runs out,
writing fails (ENOSPC), and no page is touched that is not there (SIGBUS).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

MAGIC = b"coe-img1"
CHUNK_BYTES = 16 * 2**20
PREAMBLE = struct.Struct("<8sQQQ")
FIRST_BLOCK = 4096
"""Position of the first block in the file."""
ALIGNMENT = 256
"""Alignment of blocks: as CUDA allocates, since the file is copied to the device as it is."""


class ImageUnfit(Exception):
    """There is no image that could be used; the checkpoint has to be read."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a block that has a checksum of its own."""

    block: int
    begin: int
    size: int


def chunks(block: int, size: int) -> Iterator[Chunk]:
    """Yields the chunks of a block of ``size`` bytes, in order."""
    for begin in range(0, size, CHUNK_BYTES):
        yield Chunk(block, begin, min(CHUNK_BYTES, size - begin))
