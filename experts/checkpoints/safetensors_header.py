"""The header of a safetensors file, read without touching the weights and checked against the file's length.

A file is eight bytes (the header's length, little endian), the header (JSON: name to dtype, shape and
offsets) and the tensors back to back. https://github.com/huggingface/safetensors#format
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

from experts.errors import CheckpointMissing, CheckpointUnreadable

DTYPE_BITS: Mapping[str, int] = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
    "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64,
}  # fmt: skip
LONGEST_HEADER = 100_000_000
"""The format's own limit; a longer one means the file is not safetensors."""


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """One tensor: ``start`` and ``end`` are byte positions in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def parameters(self) -> int:
        return prod(self.shape)

    def __repr__(self) -> str:
        return f"<{self.name} {self.dtype} {list(self.shape)}>"


def read_header(path: Path) -> tuple[TensorHeader, ...]:
    """The tensors of a file by name.

    Raises CheckpointMissing, and CheckpointUnreadable naming the file and the tensor.
    """
    try:
        length = path.stat().st_size
        with path.open("rb") as file:
            header_length = int.from_bytes(file.read(8), "little")
            if length < 8 or header_length > min(length - 8, LONGEST_HEADER):
                raise CheckpointUnreadable(f"{path}: not a safetensors file, or cut off inside its header")
            header = _object(path, file.read(header_length))
    except FileNotFoundError:
        raise CheckpointMissing(f"{path}: no such file") from None
    except OSError as error:
        raise CheckpointUnreadable(f"{path}: cannot be read: {error.strerror}") from error
    first = 8 + header_length
    tensors = [
        _tensor(path, name, entry, first, length)
        for name, entry in sorted(header.items())
        if name != "__metadata__"
    ]
    _check_no_gaps(path, tensors, first, length)
    return tuple(tensors)


def read_headers(folder: Path) -> tuple[TensorHeader, ...]:
    """The tensors of all ``*.safetensors`` of a folder by name."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise CheckpointMissing(f"{folder}: no *.safetensors file")
    tensors = sorted((t for file in files for t in read_header(file)), key=lambda t: t.name)
    for one, next_one in pairwise(tensors):
        if one.name == next_one.name:
            raise CheckpointUnreadable(f"{folder}: tensor {one.name} is in two files")
    return tuple(tensors)


def _object(path: Path, raw: bytes) -> dict[str, Any]:
    try:
        header = json.loads(raw)
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise CheckpointUnreadable(f"{path}: not a safetensors file (its header is not a JSON object)")
    return header


def _tensor(path: Path, name: str, entry: Any, first: int, length: int) -> TensorHeader:
    try:
        dtype, shape = str(entry["dtype"]), tuple(int(size) for size in entry["shape"])
        start, end = (first + int(offset) for offset in entry["data_offsets"])
        bits = prod(shape) * DTYPE_BITS[dtype]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointUnreadable(
            f"{path}: tensor {name} has a malformed header entry ({error!r})"
        ) from error
    if end > length:
        raise CheckpointUnreadable(
            f"{path}: truncated: tensor {name} ends at byte {end:,} of a file of {length:,}; "
            "fetch or prepare the checkpoint again"
        )
    if start < first or (end - start) * 8 != bits:
        raise CheckpointUnreadable(
            f"{path}: tensor {name} ({dtype} {list(shape)}) does not fit its {end - start:,} bytes"
        )
    return TensorHeader(name, dtype, shape, start, end)


def _check_no_gaps(path: Path, tensors: list[TensorHeader], first: int, length: int) -> None:
    position = first
    for tensor in sorted(tensors, key=lambda t: (t.start, t.end)):
        if tensor.start != position:
            raise CheckpointUnreadable(
                f"{path}: tensor {tensor.name} starts at {tensor.start}, not {position}"
            )
        position = tensor.end
    if position != length:
        raise CheckpointUnreadable(f"{path}: {length - position:,} bytes after the last tensor")
