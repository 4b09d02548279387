"""Whether a checkpoint can take another's place in an engine: same tensors, by the file headers alone."""

from pathlib import Path

from experts.checkpoints.safetensors_header import TensorHeader
from experts.errors import CheckpointMismatch


def check_same_family(
    folder: Path, expected: tuple[TensorHeader, ...], found: tuple[TensorHeader, ...]
) -> None:
    """Raises CheckpointMismatch naming the first tensor that another expert of the family has differently."""
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
