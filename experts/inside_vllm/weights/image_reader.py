"""Maps an expert's image from its file, and checks it."""

import base64
import mmap
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import torch
from xxhash import xxh3_64_intdigest

from experts.inside_vllm.kernels.linear import Packed
from experts.inside_vllm.weights.image_format import MAGIC, PREAMBLE, Chunk, ImageUnfit, chunks
from experts.inside_vllm.weights.images import Image
from experts.inside_vllm.weights.slices import Clock, Pace, Slice

_POLL_S = 1e-3
BATCH_BYTES = 64 * 2**20
"""Bytes checked at a time, by several threads; some milliseconds."""


class ImageReader:
    """Maps the image in ``path`` without copying: what reads it shares the file's memory, also after the file
    is deleted. ``work`` compares the checksums until it returns True, in slices, or in threads beside the
    steps of a device that does not compute in main memory; ``image`` may be taken at any time."""

    def __init__(self, path: Path, key: str, beside: bool = False, clock: Clock = time.perf_counter) -> None:
        """``beside``: the device's memory is another. The mapping is then the file's own memory even for
        writing, which pinning it needs.

        Raises ImageUnfit where there is none, it was written for another ``key``, or its header is
        damaged."""
        self._path = path
        self._clock = clock
        self._pace = Pace()
        self._memory, self._header = _open(path, key, shared=beside)
        self._beside = beside
        self._checks: Future[Chunk | None] | None = None
        self._closed = threading.Event()
        sizes = (size for _, size in self._header["blocks"])
        found = (chunk for number, size in enumerate(sizes) for chunk in chunks(number, size))
        self._unread = _batched(zip(found, self._header["sums"], strict=True), BATCH_BYTES)
        self._next = next(self._unread, None)

    def work(self, seconds: float) -> bool:
        """Returns True when all checksums are right. Raises ImageUnfit when one is wrong."""
        if self._beside:
            return self._checked_beside(seconds)
        slice_ = Slice(self._clock, seconds)
        while self._next is not None:
            size = sum(chunk.size for chunk, _ in self._next)
            if not slice_.allows(self._pace.expects(size)):
                return False
            began = self._clock()
            threads = _threads()
            for wrong in _pool().map(self._wrong, (self._next[part::threads] for part in range(threads))):
                self._refuse(wrong)
            self._next = next(self._unread, None)
            self._pace.took(size, self._clock() - began)
        return True

    def _checked_beside(self, seconds: float) -> bool:
        if self._checks is None:
            self._checks = _one_beside().submit(self._first_wrong)
        if not self._checks.done():
            wait([self._checks], min(seconds, _POLL_S))
        if not self._checks.done():
            return False
        self._refuse(self._checks.result())
        return True

    def _first_wrong(self) -> Chunk | None:
        batch = self._next
        while batch is not None and not self._closed.is_set():
            if (wrong := self._wrong(batch)) is not None:
                return wrong
            batch = next(self._unread, None)
        return None

    def _refuse(self, wrong: Chunk | None) -> None:
        if wrong is not None:
            raise ImageUnfit(f"{self._path}: the checksum of block {wrong.block} is wrong")

    def _wrong(self, expected: Sequence[tuple[Chunk, int]]) -> Chunk | None:
        """Returns the first chunk that has another checksum than expected."""
        for chunk, wanted in expected:
            place = self._header["blocks"][chunk.block][0] + chunk.begin
            if xxh3_64_intdigest(self._memory[place : place + chunk.size].numpy()) != wanted:
                return chunk
        return None

    def image(self, memory: torch.Tensor | None = None) -> Image:
        """Returns the image, from ``memory``, another mapping or a copy of the same file, where that is
        given."""
        memory = self._memory if memory is None else memory
        kernels = [self._kernel(entry, memory) for entry in self._header["kernels"]]
        return Image(
            tuple(self._tensor(entry, memory) for entry in self._header["tensors"]),
            tuple(kernels[number] for number in self._header["kernel_of"]),
        )

    @property
    def memory(self) -> torch.Tensor:
        """The mapping: all bytes of the file."""
        return self._memory

    def close(self) -> None:
        """Ends the work. The memory stays as long as an image needs it."""
        self._closed.set()
        self._next = None

    def _tensor(self, entry: dict[str, Any], memory: torch.Tensor) -> torch.Tensor:
        place, size = self._header["blocks"][entry["block"]]
        flat = memory[place : place + size].view(_dtype(entry))
        return flat.as_strided(entry["shape"], entry["stride"])

    def _kernel(self, entry: dict[str, Any], memory: torch.Tensor) -> Any:
        if "linear" in entry:
            return torch.nn.functional.linear
        address = memory.data_ptr() + self._header["blocks"][entry["block"]][0]
        layout = base64.b64decode(entry["layout"])
        return Packed.mapped(address, tuple(entry["shape"]), _dtype(entry), layout, memory)


def _open(path: Path, key: str, shared: bool) -> tuple[torch.Tensor, dict[str, Any]]:
    """Maps the file, so that writes stay private unless it is ``shared``, and returns all its bytes and the
    header."""
    flags = mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE
    try:
        with path.open("r+b") as file:
            mapping = mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    except (OSError, ValueError) as error:
        raise ImageUnfit(f"{path}: {error}") from None
    magic, place, size, wanted = PREAMBLE.unpack(mapping[: PREAMBLE.size].ljust(PREAMBLE.size))
    header = mapping[place : place + size]
    if magic != MAGIC or place + size != len(mapping) or xxh3_64_intdigest(header) != wanted:
        raise ImageUnfit(f"{path}: no image, or a damaged one")
    described: dict[str, Any] = orjson.loads(header)
    if described["key"] != key:
        raise ImageUnfit(f"{path}: made of other weights, or by another version")
    return torch.frombuffer(mapping, dtype=torch.uint8), described


def _batched(chunks: Iterator[tuple[Chunk, int]], size: int) -> Iterator[Sequence[tuple[Chunk, int]]]:
    """Groups chunks, until those of a group hold ``size`` bytes together."""
    batch: list[tuple[Chunk, int]] = []
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
    """Returns the threads that read side by side: mapping a page takes two thirds of the time of reading
    it."""
    return ThreadPoolExecutor(_threads(), "image")


@cache
def _one_beside() -> ThreadPoolExecutor:
    """Returns the thread that checks an image while steps go on: one, as those need the processor too."""
    return ThreadPoolExecutor(1, "image-beside")


def _dtype(entry: dict[str, Any]) -> torch.dtype:
    dtype: torch.dtype = getattr(torch, entry["dtype"])
    return dtype
