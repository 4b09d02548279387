"""Writes a safetensors file of float32 tensors one by one, so that no more than one is in memory."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experts.progress import Progress, silent

Weights = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TensorShape:
    name: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return prod(self.shape) * 4


def write_tensors(
    path: Path, shapes: Sequence[TensorShape], tensors: Iterable[Weights], progress: Progress = silent
) -> None:
    """``tensors`` come in the order of ``shapes``. Raises ValueError where they do not fit."""
    total = sum(shape.bytes for shape in shapes)
    done = 0
    with path.open("wb") as file:
        file.write(_header(shapes))
        for shape, weights in zip(shapes, tensors, strict=True):
            if weights.shape != shape.shape or weights.dtype != np.float32:
                raise ValueError(
                    f"{shape.name} is {weights.dtype} {weights.shape}, not float32 {shape.shape}"
                )
            file.write(np.ascontiguousarray(weights).data)
            done += shape.bytes
            progress("write", done, total)


def _header(shapes: Sequence[TensorShape]) -> bytes:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    start = 0
    for shape in shapes:
        end = start + shape.bytes
        header[shape.name] = {"dtype": "F32", "shape": list(shape.shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
