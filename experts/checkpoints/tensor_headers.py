"""Names, types and shapes of a checkpoint's tensors, from the headers of its safetensors files alone."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path

from safetensors import SafetensorError, safe_open

from experts.errors import CheckpointMismatch, CheckpointMissing, CheckpointUnreadable

DTYPE_BITS: Mapping[str, int] = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
    "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64,
}  # fmt: skip
"""Bits of a value; the library knows them and does not tell."""


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """One tensor of a file."""

    name: str
    dtype: str
    """Its name in safetensors, such as ``BF16``."""
    shape: tuple[int, ...]

    @property
    def parameters(self) -> int:
        return prod(self.shape)

    def __repr__(self) -> str:
        return f"<{self.name} {self.dtype} {list(self.shape)}>"


def read_header(path: Path) -> tuple[TensorHeader, ...]:
    """Reads the tensors of a file, sorted by name; the weights stay unread.

    Raises CheckpointMissing, and CheckpointUnreadable for a file that is not safetensors, or that its tensors
    do not fill to the last byte.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in sorted(file.keys())}
            return tuple(
                TensorHeader(name, found.get_dtype(), tuple(found.get_shape()))
                for name, found in slices.items()
            )
    except OSError as error:
        if not path.exists():
            raise CheckpointMissing(f"{path}: no such file") from None
        raise CheckpointUnreadable(f"{path}: cannot be read: {error}") from error
    except SafetensorError as error:
        raise CheckpointUnreadable(
            f"{path}: not a whole safetensors file: {error}; fetch or prepare the checkpoint again"
        ) from error


def read_headers(folder: Path) -> tuple[TensorHeader, ...]:
    """Reads the tensors of all ``*.safetensors`` of a folder, sorted by name.

    Raises CheckpointMissing, CheckpointUnreadable.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise CheckpointMissing(f"{folder}: no *.safetensors file")
    tensors = sorted((t for file in files for t in read_header(file)), key=lambda t: t.name)
    for one, next_one in pairwise(tensors):
        if one.name == next_one.name:
            raise CheckpointUnreadable(f"{folder}: tensor {one.name} is in two files")
    return tuple(tensors)


def check_same_family(folder: Path, expected: Iterable[TensorHeader], found: Iterable[TensorHeader]) -> None:
    """Raises CheckpointMismatch naming the first tensor of ``folder``, with the headers ``found``, that is
    not as ``expected``."""
    wanted = {tensor.name: (tensor.dtype, tensor.shape) for tensor in expected}
    given = {tensor.name: (tensor.dtype, tensor.shape) for tensor in found}
    for name in sorted(wanted.keys() | given.keys()):
        if wanted.get(name) != given.get(name):
            raise CheckpointMismatch(
                f"{folder}: tensor {name} is {_described(given.get(name))}, "
                f"in this family it is {_described(wanted.get(name))}; put the expert in a family of its own"
            )


def _described(tensor: tuple[str, tuple[int, ...]] | None) -> str:
    return "absent" if tensor is None else f"{tensor[0]} {list(tensor[1])}"
