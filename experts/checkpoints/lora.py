"""A LoRA adapter (arXiv 2106.09685) and its merge into full weights: W + B A x scale, in float32.

An adapter is a folder: ``adapter.json`` says what it was made for and how (``scripts/train_adapters.py``
writes it), ``adapter.safetensors`` holds ``<module>.lora_A`` (rank x inputs) and ``<module>.lora_B``
(outputs x rank).
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from experts.checkpoints.safetensors_header import TensorHeader, read_header
from experts.checkpoints.safetensors_writer import TensorShape, Weights
from experts.errors import CheckpointMismatch, CheckpointMissing, CheckpointUnreadable


class AdapterDescription(BaseModel):
    """What a merge needs of adapter.json; the rest of it is for people."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    base_sha256: str
    adapter_sha256: str
    scale: float


@dataclass(frozen=True, slots=True)
class Factors:
    """The two thin matrices of one module."""

    a: Weights
    b: Weights


@dataclass(frozen=True, slots=True)
class Adapter:
    folder: Path
    description: AdapterDescription
    factors: dict[str, Factors]

    def __repr__(self) -> str:
        return f"<Adapter {self.folder.name} [{len(self.factors)} modules, scale {self.description.scale}]>"

    def merge(self, shapes: Sequence[TensorShape], tensors: Iterable[Weights]) -> Iterator[Weights]:
        """The base's tensors with the adapter added. Raises CheckpointMismatch before the first one when a
        module is not in the base or has another shape there."""
        self._check_fits(shapes)
        for shape, weights in zip(shapes, tensors, strict=True):
            factors = self.factors.get(shape.name.removesuffix(".weight"))
            if factors is None:
                yield weights
            else:
                yield weights + (factors.b @ factors.a) * np.float32(self.description.scale)

    def _check_fits(self, shapes: Sequence[TensorShape]) -> None:
        known = {shape.name: shape.shape for shape in shapes}
        for module, factors in self.factors.items():
            shape, made = known.get(f"{module}.weight"), (factors.b.shape[0], factors.a.shape[1])
            if shape != made or factors.a.shape[0] != factors.b.shape[1]:
                raise CheckpointMismatch(
                    f"{self.folder}: {module} makes {list(made)}, the base has {shape and list(shape)} there"
                )


def read_adapter(folder: Path) -> Adapter:
    """Raises CheckpointMissing, CheckpointUnreadable, and CheckpointMismatch for a wrong hash."""
    description = _read_description(folder / "adapter.json")
    path = folder / "adapter.safetensors"
    headers = {header.name: header for header in read_header(path)}
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != description.adapter_sha256:
        raise CheckpointMismatch(f"{path}: sha256 is {found}, adapter.json says {description.adapter_sha256}")
    factors: dict[str, Factors] = {}
    for name in headers:
        module, _, part = name.rpartition(".")
        if (
            part not in ("lora_A", "lora_B")
            or f"{module}.lora_A" not in headers
            or f"{module}.lora_B" not in headers
        ):
            raise CheckpointUnreadable(
                f"{path}: {name} is not one of a pair <module>.lora_A, <module>.lora_B"
            )
        a, b = (float32(content, headers[f"{module}.{which}"], path) for which in ("lora_A", "lora_B"))
        factors[module] = Factors(a, b)
    return Adapter(folder, description, factors)


def float32(content: bytes, header: TensorHeader, path: Path) -> Weights:
    """One matrix of a file's bytes. A bfloat16 is the upper half of a float32."""
    raw = content[header.start : header.end]
    match header.dtype, len(header.shape):
        case "BF16", 2:
            halves = np.frombuffer(raw, dtype="<u2").astype(np.uint32)
            return (halves << 16).view(np.float32).reshape(header.shape)
        case "F32", 2:
            return np.frombuffer(raw, dtype="<f4").reshape(header.shape)
    raise CheckpointUnreadable(f"{path}: {header!r} is not a matrix in BF16 or F32")


def _read_description(path: Path) -> AdapterDescription:
    try:
        return AdapterDescription.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointMissing(f"{path}: no such file") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise CheckpointUnreadable(f"{path}: {field}: {first['msg']}") from None
