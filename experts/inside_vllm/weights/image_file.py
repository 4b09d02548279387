"""An expert's image as a file in shared memory: written once, then mapped by whoever computes with it.

Layout: 32 bytes (magic, where the header is, how long it is, its checksum), from byte 4096 on the blocks of
weights, each aligned for vector instructions, then the header in JSON. Weights come in chunks with a checksum
(XXH3, 64 bits) each. A file has its name only once it is complete, so one that was cut off does not exist.

Files are written by ``pwrite`` only, and mapped only when every page has been written: where memory runs out,
writing fails (ENOSPC), and nobody touches a page that is not there (SIGBUS).
"""

import base64
import errno
import mmap
import os
import struct
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import torch
from xxhash import xxh3_64_intdigest

from experts.inside_vllm.kernels.linear import Packed
from experts.inside_vllm.weights.images import Image
from experts.inside_vllm.weights.slices import Clock, Pace, Slice
from experts.memory.shared_memory import room_in

MAGIC = b"coe-img1"
CHUNK_BYTES = 16 * 2**20
BATCH_BYTES = 64 * 2**20
"""Read at a time, by several threads; some milliseconds."""
_PREAMBLE = struct.Struct("<8sQQQ")
_BEGIN = 4096
_ALIGNED = 64


class ImageUnfit(Exception):
    """There is no image that could be used; the checkpoint has to be read."""


@dataclass(frozen=True, slots=True)
class _Chunk:
    block: int
    begin: int
    size: int


class ImageWriter:
    """Writes ``image`` to ``path`` in slices: ``work`` until it says True; ``close`` in any case."""

    def __init__(self, path: Path, key: str, image: Image, clock: Clock = time.perf_counter) -> None:
        """``key`` says what the image depends on. Raises ImageUnfit when a kernel's memory is out of reach,
        OSError, also when there is no room for the image beside what others need."""
        self._path = path
        self._partial = path.with_suffix(".partial")
        self._clock = clock
        self._pace = Pace()
        self._blocks: list[torch.Tensor | memoryview] = []
        self._places: list[tuple[int, int]] = []
        """Where each block is in the file, and its bytes."""
        self._known: dict[tuple[int, int], int] = {}
        self._end = _BEGIN
        self._header: dict[str, Any] = {"key": key, **self._describe(image)}
        self._sums: list[int] = []
        self._chunks = [
            chunk for number, (_, size) in enumerate(self._places) for chunk in _chunks(number, size)
        ]
        if self._end > (room := room_in(path.parent)):
            raise OSError(
                errno.ENOSPC, f"it needs {self._end:,} bytes, there is room for {room:,}", str(path)
            )
        self._file = os.open(self._partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def work(self, seconds: float) -> bool:
        """True when the file is there, whole. Raises OSError, as when the memory is full."""
        slice_ = Slice(self._clock, seconds)
        while len(self._sums) < len(self._chunks):
            chunk = self._chunks[len(self._sums)]
            if not slice_.allows(self._pace.expects(chunk.size)):
                return False
            began = self._clock()
            data = self._bytes(chunk)
            self._write(data, self._places[chunk.block][0] + chunk.begin)
            self._sums.append(xxh3_64_intdigest(data))
            self._pace.took(chunk.size, self._clock() - began)
        header = orjson.dumps({**self._header, "blocks": self._places, "sums": self._sums})
        self._write(header, self._end)
        self._write(_PREAMBLE.pack(MAGIC, self._end, len(header), xxh3_64_intdigest(header)), 0)
        self._partial.rename(self._path)
        return True

    def close(self) -> None:
        """Leaves no half file. Idempotent."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            self._blocks.clear()
            self._partial.unlink(missing_ok=True)

    def _describe(self, image: Image) -> dict[str, Any]:
        kernels: dict[int, dict[str, Any]] = {}
        for kernel in image.kernels:
            if id(kernel) not in kernels:
                kernels[id(kernel)] = self._kernel(kernel)
        numbers = {identity: number for number, identity in enumerate(kernels)}
        return {
            "tensors": [self._tensor(tensor) for tensor in image.data],
            "kernels": list(kernels.values()),
            "kernel_of": [numbers[id(kernel)] for kernel in image.kernels],
        }

    def _tensor(self, tensor: torch.Tensor) -> dict[str, Any]:
        dense = tensor.detach()
        if not dense.is_contiguous():
            dense = dense.clone()  # without gaps; transposed stays transposed
        flat = dense.as_strided((dense.numel(),), (1,)).view(torch.uint8)
        return {
            "dtype": str(dense.dtype).removeprefix("torch."),
            "shape": list(dense.shape),
            "stride": list(dense.stride()),
            "block": self._block(flat, dense.data_ptr(), dense.nbytes),
        }

    def _kernel(self, kernel: Any) -> dict[str, Any]:
        if kernel is torch.nn.functional.linear:
            return {"linear": True}
        if not isinstance(kernel, Packed):
            raise ImageUnfit("a layer's packed weight is vLLM's own, whose memory cannot be read")
        memory = kernel.memory
        return {
            "dtype": str(kernel.tensor.dtype).removeprefix("torch."),
            "shape": list(kernel.tensor.shape),
            "layout": base64.b64encode(kernel.layout).decode(),
            "block": self._block(memory, id(kernel), memory.nbytes),
        }

    def _block(self, data: torch.Tensor | memoryview, identity: int, size: int) -> int:
        """Weights that are the same memory are written once."""
        number = self._known.setdefault((identity, size), len(self._blocks))
        if number == len(self._blocks):
            self._blocks.append(data)
            self._places.append((self._end, size))
            self._end += -(-size // _ALIGNED) * _ALIGNED
        return number

    def _bytes(self, chunk: _Chunk) -> memoryview:
        part = self._blocks[chunk.block][chunk.begin : chunk.begin + chunk.size]
        return memoryview(part.cpu().numpy()) if isinstance(part, torch.Tensor) else part

    def _write(self, data: memoryview | bytes, place: int) -> None:
        left = memoryview(data)
        while left.nbytes:
            written = os.pwrite(self._file, left, place)
            left, place = left[written:], place + written


class ImageReader:
    """Maps the image in ``path`` without copying: what reads it shares the file's memory, also after the file
    is deleted. ``work`` compares the checksums in slices until it says True; ``image`` may be taken at any
    time."""

    def __init__(self, path: Path, key: str, shared: bool = False, clock: Clock = time.perf_counter) -> None:
        """``shared``: the mapping is the file's own memory even for writing, which pinning it needs.

        Raises ImageUnfit: there is none, or it was written for another ``key``, or its header is damaged."""
        self._path = path
        self._clock = clock
        self._pace = Pace()
        self._memory, self._header = _open(path, key, shared)
        sizes = (size for _, size in self._header["blocks"])
        chunks = (chunk for number, size in enumerate(sizes) for chunk in _chunks(number, size))
        self._unread = _batched(zip(chunks, self._header["sums"], strict=True), BATCH_BYTES)
        self._next = next(self._unread, None)

    def work(self, seconds: float) -> bool:
        """Raises ImageUnfit when the bytes are not those that were written."""
        slice_ = Slice(self._clock, seconds)
        while self._next is not None:
            size = sum(chunk.size for chunk, _ in self._next)
            if not slice_.allows(self._pace.expects(size)):
                return False
            began = self._clock()
            threads = _threads()
            for wrong in _pool().map(self._wrong, (self._next[part::threads] for part in range(threads))):
                if wrong is not None:
                    raise ImageUnfit(f"{self._path}: the checksum of block {wrong.block} is wrong")
            self._next = next(self._unread, None)
            self._pace.took(size, self._clock() - began)
        return True

    def _wrong(self, expected: Sequence[tuple[_Chunk, int]]) -> _Chunk | None:
        for chunk, wanted in expected:
            place = self._header["blocks"][chunk.block][0] + chunk.begin
            if xxh3_64_intdigest(self._memory[place : place + chunk.size].numpy()) != wanted:
                return chunk
        return None

    def image(self, memory: torch.Tensor | None = None) -> Image:
        """``memory``: another mapping of the same file to take it from."""
        self._memory = self._memory if memory is None else memory
        kernels = [self._kernel(entry) for entry in self._header["kernels"]]
        return Image(
            tuple(self._tensor(entry) for entry in self._header["tensors"]),
            tuple(kernels[number] for number in self._header["kernel_of"]),
        )

    @property
    def memory(self) -> torch.Tensor:
        """All bytes of the file."""
        return self._memory

    def close(self) -> None:
        """The memory stays as long as an image needs it."""
        self._next = None

    def _tensor(self, entry: dict[str, Any]) -> torch.Tensor:
        place, size = self._header["blocks"][entry["block"]]
        flat = self._memory[place : place + size].view(_dtype(entry))
        return flat.as_strided(entry["shape"], entry["stride"])

    def _kernel(self, entry: dict[str, Any]) -> Any:
        if "linear" in entry:
            return torch.nn.functional.linear
        address = self._memory.data_ptr() + self._header["blocks"][entry["block"]][0]
        layout = base64.b64decode(entry["layout"])
        return Packed.mapped(address, tuple(entry["shape"]), _dtype(entry), layout, self._memory)


def _open(path: Path, key: str, shared: bool) -> tuple[torch.Tensor, dict[str, Any]]:
    """All bytes of the file, private to whoever should write to them, and the header."""
    flags = mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE
    try:
        with path.open("r+b") as file:
            mapping = mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    except (OSError, ValueError) as error:
        raise ImageUnfit(f"{path}: {error}") from None
    magic, place, size, wanted = _PREAMBLE.unpack(mapping[: _PREAMBLE.size].ljust(_PREAMBLE.size))
    header = mapping[place : place + size]
    if magic != MAGIC or place + size != len(mapping) or xxh3_64_intdigest(header) != wanted:
        raise ImageUnfit(f"{path}: no image, or a damaged one")
    described: dict[str, Any] = orjson.loads(header)
    if described["key"] != key:
        raise ImageUnfit(f"{path}: made of other weights, or by another version")
    return torch.frombuffer(mapping, dtype=torch.uint8), described


def _chunks(block: int, size: int) -> Iterator[_Chunk]:
    for begin in range(0, size, CHUNK_BYTES):
        yield _Chunk(block, begin, min(CHUNK_BYTES, size - begin))


def _batched(chunks: Iterator[tuple[_Chunk, int]], size: int) -> Iterator[Sequence[tuple[_Chunk, int]]]:
    """As many at a time as hold ``size`` bytes together."""
    batch: list[tuple[_Chunk, int]] = []
    held = 0
    for chunk, wanted in chunks:
        batch.append((chunk, wanted))
        held += chunk.size
        if held >= size:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def _threads() -> int:
    return min(4, int(torch.get_num_threads()))


@cache
def _pool() -> ThreadPoolExecutor:
    """Reads side by side: of a page that was not mapped yet, two thirds of the time is its mapping."""
    return ThreadPoolExecutor(_threads(), "image")


def _dtype(entry: dict[str, Any]) -> torch.dtype:
    dtype: torch.dtype = getattr(torch, entry["dtype"])
    return dtype
