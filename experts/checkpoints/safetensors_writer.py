"""Writes a safetensors file of float32 tensors one by one.

The library's own writer wants all of them in memory at once, and says in words alone that the disk is full.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experts.checkpoints.tensor_headers import TensorHeader
from experts.progress import Progress, silent

Weights = NDArray[np.float32]


def write_tensors(
    path: Path, headers: Sequence[TensorHeader], tensors: Iterable[Weights], progress: Progress = silent
) -> None:
    """Writes ``tensors``, which come in the order of ``headers``. Raises ValueError where they do not fit,
    and OSError."""
    total = sum(map(_bytes, headers))
    done = 0
    with path.open("wb") as file:
        file.write(_preamble(headers))
        for header, weights in zip(headers, tensors, strict=True):
            if header.dtype != "F32" or weights.dtype != np.float32 or weights.shape != header.shape:
                raise ValueError(f"{header!r} is given {weights.dtype} {list(weights.shape)}")
            file.write(np.ascontiguousarray(weights).data)
            done += _bytes(header)
            progress("write", done, total)


def _preamble(headers: Sequence[TensorHeader]) -> bytes:
    """Lays out the tensors in their order (https://github.com/huggingface/safetensors#format)."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    start = 0
    for header in headers:
        end = start + _bytes(header)
        entries[header.name] = {
            "dtype": header.dtype,
            "shape": list(header.shape),
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _bytes(header: TensorHeader) -> int:
    return 4 * header.parameters
