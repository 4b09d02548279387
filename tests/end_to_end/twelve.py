"""Twelve experts of one family, all of full weights: the five embedded ones and seven blends of them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from safetensors.numpy import load_file

from experts.checkpoints.merge import merged
from experts.checkpoints.peft import PeftAdapter
from experts.checkpoints.safetensors_writer import write_tensors
from experts.checkpoints.sources.embedded import EmbeddedSource
from experts.checkpoints.tensor_headers import TensorHeader
from experts.engines.computing_type import computes_bfloat16
from tests.conftest import EMBEDDED

ROOT = Path(__file__).resolve().parents[2]
FAMILY = "smollm2-135m"
BLENDS: Mapping[str, Mapping[str, float]] = {
    "math-strong": {"math": 2.0},
    "coding-strong": {"coding": 2.0},
    "medicine-strong": {"medicine": 2.0},
    "law-strong": {"law": 2.0},
    "math-coding": {"math": 1.0, "coding": 1.0},
    "medicine-law": {"medicine": 1.0, "law": 1.0},
    "all-four": {"math": 1.0, "coding": 1.0, "medicine": 1.0, "law": 1.0},
}
"""Experts that nobody trained: embedded adapters added to the base, each so many times."""
TWELVE = (*EMBEDDED, *BLENDS)
_PARAMETERS, _EMBEDDING = 134_515_008, 49_152 * 576


def checkpoint_bytes() -> int:
    """Of one expert's checkpoint, in float32; its header, of some 30 KB, aside."""
    return 4 * _PARAMETERS


def expert_bytes() -> int:
    """What one takes in an engine with ``dtype: auto`` on this CPU: the weights, and the embedding a second
    time, packed."""
    return (2 if computes_bfloat16() else 4) * (_PARAMETERS + _EMBEDDING)


def make_blends(base: Path, folder: Path) -> None:
    """Seven checkpoints in ``folder``, of the prepared ``base``. 538 MB each."""
    weights = load_file(base / "model.safetensors")
    headers = [TensorHeader(name, "F32", tensor.shape) for name, tensor in weights.items()]
    for name, parts in BLENDS.items():
        made = folder / name
        made.mkdir(parents=True)
        tensors = iter(weights.values())
        for part, times in parts.items():
            tensors = merged(_adapter(part, times), headers, tensors)
        write_tensors(made / "model.safetensors", headers, tensors)
        for file in base.iterdir():
            if file.suffix in (".json", ".jinja") and file.name != "coe.json":
                shutil.copyfile(file, made / file.name)


def _adapter(name: str, times: float) -> PeftAdapter:
    adapter = EmbeddedSource(name).adapter()
    assert adapter is not None
    return replace(adapter, scale=adapter.scale * times)


def configured(folder: Path, tiers: Mapping[str, Any], family: Mapping[str, Any]) -> Path:
    """A configuration file in ``folder`` for the twelve, whose blends are in ``folder / "blends"``."""
    checkpoints = {name: {"embedded": embedded} for name, embedded in EMBEDDED.items()}
    checkpoints |= {name: {"folder": str(folder / "blends" / name)} for name in BLENDS}
    tree = {
        "store": str(folder / "store"),
        "logs": str(folder / "logs"),
        "tiers": {"event_log": str(folder / "tiers.log"), **tiers},
        "families": {FAMILY: dict(family)},
        "experts": {name: {"family": FAMILY, "checkpoint": source} for name, source in checkpoints.items()},
    }
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return file


def prepare_all(store: Path, configuration: Path, folder: Path) -> None:
    """By ``coe experts prepare``. The five are links into ``store``, where they are prepared already."""
    (folder / "store").mkdir()
    for name in EMBEDDED:
        os.symlink(store / name, folder / "store" / name)
    command = [sys.executable, "-m", "server.cli", "experts", "prepare", "--config", str(configuration)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def remove_weights(folder: Path) -> None:
    """The seven's, 3.8 GB, which pytest would keep."""
    shutil.rmtree(folder / "store", ignore_errors=True)
    shutil.rmtree(folder / "blends", ignore_errors=True)
