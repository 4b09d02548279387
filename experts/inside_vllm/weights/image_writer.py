"""Writes an expert's image to its file, once."""

import base64
import errno
import os
import time
from pathlib import Path
from typing import Any

import orjson
import torch
from xxhash import xxh3_64_intdigest

from experts.inside_vllm.kernels.linear import Packed
from experts.inside_vllm.weights.image_format import (
    ALIGNMENT,
    FIRST_BLOCK,
    MAGIC,
    PREAMBLE,
    Chunk,
    ImageUnfit,
    chunks,
)
from experts.inside_vllm.weights.images import Image
from experts.inside_vllm.weights.slices import Clock, Pace, Slice
from experts.memory.shared_memory import room_in


class ImageWriter:
    """Writes ``image`` to ``path`` in slices: call ``work`` until it returns True, and ``close`` in any
    case."""

    def __init__(self, path: Path, key: str, image: Image, clock: Clock = time.perf_counter) -> None:
        """``key`` says what the image depends on. Raises ImageUnfit when a kernel's memory is out of reach,
        and OSError, also when there is no room for the image beside what others need."""
        self._path = path
        self._partial = path.with_suffix(".partial")
        self._clock = clock
        self._pace = Pace()
        self._blocks: list[torch.Tensor | memoryview] = []
        self._places: list[tuple[int, int]] = []
        """The position of each block in the file, and its size in bytes."""
        self._known: dict[tuple[int, int], int] = {}
        self._end = FIRST_BLOCK
        self._header: dict[str, Any] = {"key": key, **self._describe(image)}
        self._sums: list[int] = []
        self._chunks = [
            chunk for number, (_, size) in enumerate(self._places) for chunk in chunks(number, size)
        ]
        if self._end > (room := room_in(path.parent)):
            raise OSError(
                errno.ENOSPC, f"it needs {self._end:,} bytes, there is room for {room:,}", str(path)
            )
        self._file = os.open(self._partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def work(self, seconds: float) -> bool:
        """Returns True when the file is there, whole. Raises OSError, as when the memory is full."""
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
        self._write(PREAMBLE.pack(MAGIC, self._end, len(header), xxh3_64_intdigest(header)), 0)
        self._partial.rename(self._path)
        return True

    def close(self) -> None:
        """Removes a file that is not whole. Idempotent."""
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
        """Returns the number of a block. Weights that are the same memory are one block."""
        number = self._known.setdefault((identity, size), len(self._blocks))
        if number == len(self._blocks):
            self._blocks.append(data)
            self._places.append((self._end, size))
            self._end += -(-size // ALIGNMENT) * ALIGNMENT
        return number

    def _bytes(self, chunk: Chunk) -> memoryview:
        part = self._blocks[chunk.block][chunk.begin : chunk.begin + chunk.size]
        return memoryview(part.cpu().numpy()) if isinstance(part, torch.Tensor) else part

    def _write(self, data: memoryview | bytes, place: int) -> None:
        left = memoryview(data)
        while left.nbytes:
            written = os.pwrite(self._file, left, place)
            left, place = left[written:], place + written
