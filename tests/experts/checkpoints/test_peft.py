"""An adapter in PEFT's layout is read by its header, and refused by the name of the tensor that is wrong."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from experts.checkpoints.lora import float32
from experts.checkpoints.peft import read_adapter, write_adapter
from experts.checkpoints.safetensors_header import TensorHeader, read_header
from experts.checkpoints.sources import EmbeddedSource
from experts.errors import CheckpointMismatch, CheckpointMissing, CheckpointUnreadable

MODULE = "model.layers.0.q_proj"
A, B = (f"base_model.model.{MODULE}.lora_{which}.weight" for which in "AB")
BASE = (
    TensorHeader(f"{MODULE}.weight", "F32", (4, 3), 0, 48),
    TensorHeader("norm.weight", "F32", (3,), 48, 60),
)


def an_adapter(
    folder: Path,
    tensors: dict[str, Any] | None = None,
    a: tuple[int, ...] = (2, 3),
    b: tuple[int, ...] = (4, 2),
    **config: Any,
) -> Path:
    """Of rank 2 for a module of 3 inputs and 4 outputs."""
    folder.mkdir()
    made = {A: np.ones(a, np.float32), B: np.ones(b, np.float32)}
    save_file(made if tensors is None else tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"r": 2, "lora_alpha": 4} | config))
    return folder


def test_rank_targets_and_parameters_are_read_from_the_header(tmp_path: Path) -> None:
    adapter = read_adapter(an_adapter(tmp_path / "law"))
    assert (adapter.rank, adapter.targets, adapter.parameters) == (2, frozenset({"q_proj"}), 14)
    assert repr(adapter) == "<PeftAdapter law [1 modules, rank 2]>"
    adapter.check_fits(BASE)
    adapter.check_finite()


@pytest.mark.parametrize(
    ("shapes", "tensor"),
    [({"a": (2, 5)}, A), ({"b": (5, 2)}, B), ({"b": (4, 1)}, B)],
    ids=["inputs", "outputs", "ranks"],
)
def test_a_matrix_of_another_shape_is_named(
    tmp_path: Path, shapes: dict[str, tuple[int, ...]], tensor: str
) -> None:
    adapter = read_adapter(an_adapter(tmp_path / "law", **shapes))  # type: ignore[arg-type]
    with pytest.raises(
        CheckpointMismatch, match=rf"{tensor} is .*the base's .* is \[4, 3\]; .* another base"
    ):
        adapter.check_fits(BASE)


def test_a_module_that_the_base_has_not_is_named(tmp_path: Path) -> None:
    adapter = read_adapter(an_adapter(tmp_path / "law"))
    with pytest.raises(CheckpointMismatch, match=rf"{A} is .*{MODULE}.weight does not exist"):
        adapter.check_fits(BASE[1:])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_a_value_that_is_no_number_is_named(tmp_path: Path, value: float, dtype: str) -> None:
    folder = an_adapter(tmp_path / "law")
    tensors = {A: np.array([[1, value, 6e4], [-6e4, 1e-40, 0]], np.float32), B: np.ones((4, 2), np.float32)}
    if dtype == "F16":
        tensors = {name: tensor.astype(np.float16) for name, tensor in tensors.items()}
    save_file(tensors, folder / "adapter_model.safetensors")
    if dtype == "BF16":
        write_bfloat16(folder / "adapter_model.safetensors", tensors)
    with pytest.raises(CheckpointUnreadable, match=rf"tensor {A} has NaN or infinity"):
        read_adapter(folder).check_finite()


def write_bfloat16(path: Path, tensors: dict[str, Any]) -> None:
    """The upper halves of float32, which safetensors' numpy cannot write."""
    header, data = {}, b""
    for name, tensor in tensors.items():
        upper = (tensor.view(np.uint32) >> 16).astype("<u2").tobytes()
        offsets = [len(data), len(data) + len(upper)]
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": offsets}
        data += upper
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def test_half_a_pair_and_a_foreign_tensor_are_named(tmp_path: Path) -> None:
    half = an_adapter(tmp_path / "half", {A: np.ones((2, 3), np.float32)})
    with pytest.raises(CheckpointUnreadable, match=f"tensor {A} is not one of a pair"):
        read_adapter(half)
    foreign = an_adapter(tmp_path / "foreign", {"lm_head.weight": np.ones((2, 3), np.float32)})
    with pytest.raises(CheckpointUnreadable, match=r"tensor lm_head.weight is not one of a pair"):
        read_adapter(foreign)


def test_a_rank_that_the_description_denies_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointMismatch, match=r"is of rank 2, adapter_config.json says 8"):
        read_adapter(an_adapter(tmp_path / "law", r=8))
    assert read_adapter(an_adapter(tmp_path / "pattern", r=8, rank_pattern={"q_proj": 2})).rank == 2


@pytest.mark.parametrize("more", [{"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"bias": "all"}])
def test_an_adapter_that_is_more_than_pairs_is_refused(tmp_path: Path, more: dict[str, Any]) -> None:
    with pytest.raises(CheckpointMismatch, match=rf"{next(iter(more))}: vLLM does not serve such an adapter"):
        read_adapter(an_adapter(tmp_path / "law", **more))


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointMissing, match=r"adapter_config.json: no such file"):
        read_adapter(tmp_path)
    folder = an_adapter(tmp_path / "law")
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(
        CheckpointMissing, match=r"adapter_model.safetensors is missing; save .* as safetensors"
    ):
        read_adapter(folder)
    (folder / "adapter_config.json").write_text('{"r": 0, "lora_alpha": 1}')
    with pytest.raises(CheckpointUnreadable, match=r"adapter_config.json: r: "):
        read_adapter(folder)


def test_our_own_adapters_keep_every_value(tmp_path: Path) -> None:
    ours = EmbeddedSource("law").adapter()
    assert ours is not None
    write_adapter(ours, tmp_path, "base")
    theirs = read_adapter(tmp_path)
    assert (theirs.rank, len(theirs.pairs)) == (4, len(ours.factors))
    content = (tmp_path / "adapter_model.safetensors").read_bytes()
    for header in read_header(tmp_path / "adapter_model.safetensors"):
        module, which = header.name.removeprefix("base_model.model.").removesuffix(".weight").rsplit(".lora_")
        assert np.array_equal(
            float32(content, header, tmp_path), getattr(ours.factors[module], which.lower())
        )
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["lora_alpha"] / config["r"] == ours.description.scale
