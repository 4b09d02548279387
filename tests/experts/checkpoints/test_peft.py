"""An adapter in PEFT's layout is read by its header, and refused by the name of the tensor that is wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from experts.checkpoints.peft import read_adapter
from experts.checkpoints.tensor_headers import TensorHeader
from experts.errors import CheckpointMismatch, CheckpointMissing, CheckpointUnreadable
from tests.experts.checkpoints.peft_adapter import MODULE, A, B, an_adapter

BASE = (TensorHeader(f"{MODULE}.weight", "F32", (4, 3)), TensorHeader("norm.weight", "F32", (3,)))


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
    WRITE[dtype](tensors, folder / "adapter_model.safetensors")
    with pytest.raises(CheckpointUnreadable, match=rf"tensor {A} has NaN or infinity"):
        read_adapter(folder).check_finite()


def write_half(tensors: dict[str, Any], path: Path) -> None:
    save_file({name: tensor.astype(np.float16) for name, tensor in tensors.items()}, path)


def write_bfloat16(tensors: dict[str, Any], path: Path) -> None:
    """The upper halves of float32, which safetensors' numpy cannot write."""
    header, data = {}, b""
    for name, tensor in tensors.items():
        upper = (tensor.view(np.uint32) >> 16).astype("<u2").tobytes()
        offsets = [len(data), len(data) + len(upper)]
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": offsets}
        data += upper
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


WRITE: dict[str, Callable[[dict[str, Any], Path], None]] = {
    "F32": save_file,
    "F16": write_half,
    "BF16": write_bfloat16,
}


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


def test_the_values_of_every_type_are_read_as_float32(tmp_path: Path) -> None:
    folder = an_adapter(tmp_path / "law")
    values = {A: np.array([[1, -2.5, 3.140625], [0, 2, 0.5]], np.float32), B: np.ones((4, 2), np.float32)}
    for write in WRITE.values():
        write(values, folder / "adapter_model.safetensors")
        found = dict(read_adapter(folder).matrices())
        assert all(matrix.dtype == np.float32 for matrix in found.values())
        assert {name: matrix.tolist() for name, matrix in found.items()} == {
            name: matrix.tolist() for name, matrix in values.items()
        }


def test_a_matrix_in_another_type_is_refused(tmp_path: Path) -> None:
    doubled = {A: np.ones((2, 3)), B: np.ones((4, 2))}
    with pytest.raises(CheckpointUnreadable, match="is not a matrix in F32, BF16 or F16"):
        read_adapter(an_adapter(tmp_path / "law", doubled))


def test_the_layout_of_an_earlier_version_is_named_with_what_to_do(tmp_path: Path) -> None:
    save_file({"q.lora_A": np.ones((2, 3), np.float32)}, tmp_path / "adapter.safetensors")
    with pytest.raises(CheckpointMissing, match=r"is of an earlier layout; train the adapter again"):
        read_adapter(tmp_path)
