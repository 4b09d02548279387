"""Compares experts of one family: architecture, tensor names, shapes, dtypes, and the tokenizer.

Equal fingerprints mean that one engine's code, buffers and token ids serve both; ``differences`` says in
words how two checkpoints differ.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experts.checkpoints.sentence_modules import modules
from experts.checkpoints.tensor_headers import TensorHeader, read_headers
from experts.errors import CheckpointMissing, CheckpointUnreadable

NOT_ARCHITECTURE = frozenset({
    "_name_or_path", "attention_dropout", "bos_token_id", "dtype", "eos_token_id", "hidden_dropout",
    "initializer_range", "pad_token_id", "pretraining_tp", "torch_dtype", "transformers_version", "use_cache",
})  # fmt: skip
"""Fields of config.json that change nothing an engine computes; end tokens are the gateway's to apply."""
NOT_TOKENIZER = frozenset({"padding", "truncation"})
"""Fields of tokenizer.json that the tool that used it last has left there."""


@dataclass(frozen=True, slots=True)
class Traits:
    """Facts that decide whether two checkpoints can take turns in one engine. ``headers``: sorted by name.
    ``modules``: of a model that embeds, as ``sentence_modules`` reads them."""

    architecture: Mapping[str, Any]
    headers: tuple[TensorHeader, ...]
    tokenizer: str
    modules: Mapping[str, str] | None

    @classmethod
    def of(cls, folder: Path, headers: Sequence[TensorHeader] | None = None) -> "Traits":
        """Reads those of ``folder``; ``headers``: its ``read_headers``, where they are known. Raises
        CheckpointMissing, CheckpointUnreadable."""
        there = read_headers(folder) if headers is None else tuple(headers)
        return cls(architecture(folder), there, tokenizer(folder), modules(folder))

    @property
    def fingerprint(self) -> str:
        """The same for checkpoints that can take turns, in hexadecimal."""
        parts: list[Any] = [
            self.architecture,
            [[header.name, header.dtype, header.shape] for header in self.headers],
            self.tokenizer,
        ]
        if self.modules is not None:
            parts.append(self.modules)
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def fingerprint(folder: Path, headers: Sequence[TensorHeader]) -> str:
    """Returns the fingerprint of ``folder``, whose ``read_headers`` are given, in hexadecimal."""
    return Traits.of(folder, headers).fingerprint


def architecture(folder: Path) -> dict[str, Any]:
    """Reads the fields of config.json that decide what an engine computes."""
    config = read_json(folder / "config.json")
    return {field: value for field, value in config.items() if field not in NOT_ARCHITECTURE}


def tokenizer(folder: Path) -> str:
    """Returns a hash that is equal for equal tokenizers, however the file is laid out."""
    content = read_json(folder / "tokenizer.json")
    kept = {field: value for field, value in content.items() if field not in NOT_TOKENIZER}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def differences(one: Path, other: Path) -> Iterator[str]:
    """Yields what keeps the experts in two folders from taking turns in one engine, said of ``other``."""
    yield from differences_of(Traits.of(one), Traits.of(other))


def differences_of(one: Traits, other: Traits) -> Iterator[str]:
    """Yields what keeps two checkpoints from taking turns in one engine, said of ``other``."""
    expected, found = one.architecture, other.architecture
    for field in sorted(expected.keys() | found.keys()):
        if expected.get(field) != found.get(field):
            yield f"config.json: {field} is {found.get(field)!r}, not {expected.get(field)!r}"
    tensors = {header.name: header for header in one.headers}
    others = {header.name: header for header in other.headers}
    for name in sorted(tensors.keys() | others.keys()):
        match tensors.get(name), others.get(name):
            case None, _:
                yield f"tensor {name} is too many"
            case _, None:
                yield f"tensor {name} is missing"
            case TensorHeader() as a, TensorHeader() as b:
                if (a.dtype, a.shape) != (b.dtype, b.shape):
                    yield f"tensor {name} is {b.dtype} {list(b.shape)}, not {a.dtype} {list(a.shape)}"
    if one.tokenizer != other.tokenizer:
        yield "tokenizer.json differs"
    if one.modules != other.modules:
        yield "modules.json, or a file that belongs to it, differs"


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object. Raises CheckpointMissing, CheckpointUnreadable."""
    try:
        content = json.loads(path.read_bytes().decode())  # a mark of the byte order is none of JSON's
    except FileNotFoundError:
        raise CheckpointMissing(f"{path}: no such file") from None
    except OSError as error:
        raise CheckpointUnreadable(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise CheckpointUnreadable(f"{path}: not JSON: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointUnreadable(f"{path}: not a JSON object")
    return content
