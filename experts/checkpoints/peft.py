"""Reads a LoRA adapter in PEFT's layout: what it changes, whether it fits its base, its values.

``adapter_config.json`` has rank and scale, ``adapter_model.safetensors`` a pair of matrices for each module:
``base_model.model.<module>.lora_A.weight`` (rank x inputs) and ``.lora_B.weight`` (outputs x rank).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import deserialize

from experts.checkpoints.fingerprint import read_json
from experts.checkpoints.safetensors_writer import Weights
from experts.checkpoints.tensor_headers import TensorHeader, read_header
from experts.errors import CheckpointMismatch, CheckpointMissing, CheckpointUnreadable

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
EARLIER_WEIGHTS = "adapter.safetensors"
"""Beside adapter.json, what scripts/embedded/train_adapters.py wrote before it wrote PEFT's layout."""
PREFIX = "base_model.model."
CHANGES_MORE = ("use_dora", "modules_to_save", "lora_bias", "layer_replication", "trainable_token_indices")
"""Fields of adapter_config.json that, when set, mean more than pairs of matrices."""
DTYPES = ("F32", "BF16", "F16")


class _Config(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    r: int = Field(ge=1)
    lora_alpha: float
    target_modules: list[str] | str
    """Names of the modules that it changes, or a pattern of them; the tensors say it too, but vLLM asks."""
    bias: str | None = None
    rank_pattern: dict[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """The headers of one module's two matrices."""

    module: str
    a: TensorHeader
    b: TensorHeader

    @property
    def rank(self) -> int:
        return self.a.shape[0]


@dataclass(frozen=True, slots=True)
class PeftAdapter:
    """An adapter whose description and headers have been read."""

    folder: Path
    pairs: tuple[Pair, ...]
    scale: float
    """``lora_alpha`` / ``r``, of a module for which the description names no rank or alpha of its own."""

    @property
    def rank(self) -> int:
        """The largest rank of any module."""
        return max(pair.rank for pair in self.pairs)

    @property
    def targets(self) -> frozenset[str]:
        """The last names of the modules it changes, such as ``q_proj``."""
        return frozenset(pair.module.rpartition(".")[2] for pair in self.pairs)

    @property
    def parameters(self) -> int:
        return sum(pair.a.parameters + pair.b.parameters for pair in self.pairs)

    def check_fits(self, base: Iterable[TensorHeader]) -> None:
        """Raises CheckpointMismatch naming the first tensor that the base has no place for."""
        shapes = {tensor.name: tensor.shape for tensor in base}
        for pair in self.pairs:
            place = shapes.get(f"{pair.module}.weight", ())
            for tensor, wanted in ((pair.a, (pair.rank, *place[1:])), (pair.b, (*place[:1], pair.rank))):
                if len(place) != 2 or tensor.shape != wanted:
                    there = f"is {list(place)}" if place else "does not exist"
                    raise CheckpointMismatch(
                        f"{self.folder}: tensor {tensor.name} is {list(tensor.shape)}, but the base's "
                        f"{pair.module}.weight {there}; the adapter was made for another base"
                    )

    def check_finite(self) -> None:
        """Reads all values. Raises CheckpointUnreadable naming the first tensor with NaN or infinity."""
        for name, values in self.matrices():
            if not np.isfinite(values).all():
                raise CheckpointUnreadable(f"{self.folder}: tensor {name} has NaN or infinity in it")

    def matrices(self) -> Iterator[tuple[str, Weights]]:
        """Reads the file, and yields names and values of its tensors in float32, one at a time."""
        content = (self.folder / WEIGHTS).read_bytes()
        for name, tensor in deserialize(content):  # type: ignore[no-untyped-call]
            yield name, _float32(tensor["dtype"], tensor["data"]).reshape(tensor["shape"])

    def __repr__(self) -> str:
        return f"<PeftAdapter {self.folder.name} [{len(self.pairs)} modules, rank {self.rank}]>"


def read_adapter(folder: Path) -> PeftAdapter:
    """Reads the description and the header, no values. Raises CheckpointMissing, CheckpointUnreadable, and
    CheckpointMismatch where the two do not agree or the adapter is more than pairs of matrices."""
    if not (folder / CONFIG).is_file() and (folder / EARLIER_WEIGHTS).is_file():
        raise CheckpointMissing(
            f"{folder}: {EARLIER_WEIGHTS} is of an earlier layout; train the adapter again, "
            f"scripts/embedded/train_adapters.py now writes PEFT's ({CONFIG}, {WEIGHTS})"
        )
    config = _read_config(folder / CONFIG)
    if not (folder / WEIGHTS).is_file():
        raise CheckpointMissing(f"{folder}: {WEIGHTS} is missing; save the adapter as safetensors")
    pairs = tuple(_pairs(folder, read_header(folder / WEIGHTS)))
    adapter = PeftAdapter(folder, pairs, config.lora_alpha / config.r)
    if not adapter.pairs:
        raise CheckpointUnreadable(f"{folder / WEIGHTS}: there is no tensor in it")
    for pair in adapter.pairs if not config.rank_pattern else ():
        if pair.rank != config.r:
            raise CheckpointMismatch(
                f"{folder}: tensor {pair.a.name} is of rank {pair.rank}, {CONFIG} says {config.r}"
            )
    return adapter


def _pairs(folder: Path, headers: Iterable[TensorHeader]) -> Iterator[Pair]:
    tensors = {header.name: header for header in headers}
    for name, tensor in tensors.items():
        module = name.removeprefix(PREFIX).removesuffix(".lora_A.weight").removesuffix(".lora_B.weight")
        a, b = (tensors.get(f"{PREFIX}{module}.lora_{which}.weight") for which in "AB")
        if a is None or b is None:
            raise CheckpointUnreadable(
                f"{folder}: tensor {name} is not one of a pair {PREFIX}<module>.lora_A.weight, .lora_B.weight"
            )
        if tensor.dtype not in DTYPES or len(tensor.shape) != 2:
            raise CheckpointUnreadable(f"{folder}: {tensor!r} is not a matrix in F32, BF16 or F16")
        if tensor is a:
            yield Pair(module, a, b)


def _read_config(path: Path) -> _Config:
    fields: dict[str, Any] = read_json(path)
    try:
        config = _Config.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise CheckpointUnreadable(f"{path}: {field}: {first['msg']}") from None
    more = [field for field in CHANGES_MORE if fields.get(field)]
    if config.bias not in (None, "none"):
        more.append("bias")
    if more:
        raise CheckpointMismatch(
            f"{path}: {', '.join(more)}: vLLM does not serve such an adapter; merge it into its base"
        )
    return config


def _float32(dtype: str, data: bytes) -> Weights:
    """Returns the values of one of ``DTYPES``; a bfloat16, which numpy lacks, is the upper half of one."""
    match dtype:
        case "BF16":
            return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
        case "F16":
            return np.frombuffer(data, "<f2").astype(np.float32)
    return np.frombuffer(data, "<f4")
