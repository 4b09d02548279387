"""A LoRA adapter in PEFT's layout: what it changes, whether it fits its base, whether its values are numbers.

``adapter_config.json`` has rank and scale, ``adapter_model.safetensors`` a pair of matrices for each module:
``base_model.model.<module>.lora_A.weight`` (rank x inputs) and ``.lora_B.weight`` (outputs x rank).
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from experts.checkpoints import lora
from experts.checkpoints.fingerprint import read_json
from experts.checkpoints.safetensors_header import TensorHeader, read_header
from experts.errors import CheckpointMismatch, CheckpointMissing, CheckpointUnreadable

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
CHANGES_MORE = ("use_dora", "modules_to_save", "lora_bias", "layer_replication", "trainable_token_indices")
"""Fields of adapter_config.json that, when set, mean more than pairs of matrices."""
EXPONENTS: Mapping[str, tuple[str, int]] = {
    "F32": ("<u4", 0x7F80_0000), "BF16": ("<u2", 0x7F80), "F16": ("<u2", 0x7C00),
}  # fmt: skip
"""The bits of a dtype's exponent: all of them set means infinity or no number."""


class _Config(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    r: int = Field(ge=1)
    lora_alpha: float
    bias: str | None = None
    rank_pattern: dict[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """The matrices of one module, by their headers."""

    module: str
    a: TensorHeader
    b: TensorHeader

    @property
    def rank(self) -> int:
        return self.a.shape[0]


@dataclass(frozen=True, slots=True)
class PeftAdapter:
    folder: Path
    pairs: tuple[Pair, ...]

    @property
    def rank(self) -> int:
        """The largest of any module."""
        return max(pair.rank for pair in self.pairs)

    @property
    def targets(self) -> frozenset[str]:
        """Last names of the modules it changes, such as ``q_proj``."""
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
        content = np.memmap(self.folder / WEIGHTS, np.uint8, "r")
        for tensor in (tensor for pair in self.pairs for tensor in (pair.a, pair.b)):
            kind, exponent = EXPONENTS[tensor.dtype]
            bits = content[tensor.start : tensor.end].tobytes()
            if bool(np.any((np.frombuffer(bits, kind) & exponent) == exponent)):
                raise CheckpointUnreadable(f"{self.folder}: tensor {tensor.name} has NaN or infinity in it")

    def __repr__(self) -> str:
        return f"<PeftAdapter {self.folder.name} [{len(self.pairs)} modules, rank {self.rank}]>"


def read_adapter(folder: Path) -> PeftAdapter:
    """Reads the description and the header, no values. Raises CheckpointMissing, CheckpointUnreadable, and
    CheckpointMismatch where the two do not agree or the adapter is more than pairs of matrices."""
    config = _read_config(folder / CONFIG)
    if not (folder / WEIGHTS).is_file():
        raise CheckpointMissing(f"{folder}: {WEIGHTS} is missing; save the adapter as safetensors")
    adapter = PeftAdapter(folder, tuple(_pairs(folder, read_header(folder / WEIGHTS))))
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
        if tensor.dtype not in EXPONENTS or len(tensor.shape) != 2:
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


def write_adapter(adapter: lora.Adapter, folder: Path, base: str) -> None:
    """One of ours in PEFT's layout: the values are copied as they are. ``base`` is a name for people."""
    content = (adapter.folder / "adapter.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    entries = json.loads(content[8 : 8 + length])
    entries.pop("__metadata__", None)
    renamed = {f"{PREFIX}{name}.weight": entry for name, entry in entries.items()}
    header = json.dumps(renamed, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    (folder / WEIGHTS).write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :])
    (rank,) = {factors.a.shape[0] for factors in adapter.factors.values()}
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": rank * adapter.description.scale,
        "target_modules": sorted({module.rpartition(".")[2] for module in adapter.factors}),
        "bias": "none",
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
