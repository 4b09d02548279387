"""Finds files of one checkpoint that do not belong together: pieces that are missing, or another model's."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experts.checkpoints.fingerprint import read_json
from experts.checkpoints.tensor_headers import TensorHeader
from experts.errors import CheckpointMismatch, CheckpointMissing, CheckpointUnreadable
from experts.survey.view import INDEX

_PIECE = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.safetensors")
_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")


def check_pieces(folder: Path) -> None:
    """Checks the files' names, and that they have what the index says. Raises CheckpointMissing,
    CheckpointMismatch, CheckpointUnreadable."""
    there = {file.name for file in folder.glob("*.safetensors")}
    pieces = [found for name in sorted(there) if (found := _PIECE.fullmatch(name))]
    totals = {found[3] for found in pieces}
    if len(totals) > 1:
        said = " and ".join(sorted(str(int(total)) for total in totals))
        raise CheckpointMismatch(f"its files are pieces of checkpoints of {said}; keep those of one")
    if pieces:
        total, numbers = int(totals.pop()), {int(found[2]) for found in pieces}
        missing = sorted({*range(1, total + 1)} - numbers)
        if missing:
            raise CheckpointMissing(f"piece {missing[0]} of {total} of its weights is missing; fetch it")
    if (folder / INDEX).is_file():
        _check_index(folder, there)


def _check_index(folder: Path, there: set[str]) -> None:
    named = read_json(folder / INDEX).get("weight_map")
    if not isinstance(named, dict) or not all(isinstance(file, str) for file in named.values()):
        raise CheckpointUnreadable(f"{INDEX} has no weight_map; fetch it again")
    lacking = sorted({*named.values()} - there)
    if lacking:
        raise CheckpointMissing(f"{INDEX} names {lacking[0]}, which is not there; fetch it")


def check_index_tensors(folder: Path, headers: Sequence[TensorHeader]) -> None:
    """Checks that the files have each tensor that the index names. Raises CheckpointMismatch."""
    if not (folder / INDEX).is_file():
        return
    lacking = sorted(set(read_json(folder / INDEX)["weight_map"]) - {header.name for header in headers})
    if lacking:
        raise CheckpointMismatch(
            f"tensor {lacking[0]} is in {INDEX} and in no file: a file is another model's"
        )


def check_shapes(config: Mapping[str, Any], headers: Sequence[TensorHeader]) -> None:
    """Checks the tensors against config.json as far as names tell what they are.

    Raises CheckpointMismatch."""
    text = {**config, **(config.get("text_config") or {})}
    hidden, layers = text.get("hidden_size"), text.get("num_hidden_layers")
    found = {int(match[1]) for header in headers if (match := _LAYER.search(header.name))}
    if found and isinstance(layers, int) and (lacking := sorted({*range(layers)} - found)):
        raise CheckpointMismatch(
            f"config.json has {layers} layers, and the weights have none of layer {lacking[0]}: a file of "
            "them is missing, or config.json is another model's"
        )
    for header in headers:
        wide = header.name.endswith("input_layernorm.weight") and len(header.shape) == 1
        if wide and isinstance(hidden, int) and header.shape != (hidden,):
            raise CheckpointMismatch(
                f"tensor {header.name} is {list(header.shape)}, and config.json has hidden_size {hidden}: a "
                "file is another model's"
            )
