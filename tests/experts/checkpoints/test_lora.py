"""An adapter's merge is its arithmetic, and an adapter that is damaged or does not fit is refused."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from experts.checkpoints.lora import float32, read_adapter
from experts.checkpoints.safetensors_header import TensorHeader
from experts.checkpoints.safetensors_writer import TensorShape, Weights
from experts.errors import CheckpointMismatch, CheckpointMissing, CheckpointUnreadable

SHAPES = [TensorShape("norm.weight", (3,)), TensorShape("q.weight", (4, 3))]


def draw(*shape: int) -> Weights:
    return np.random.default_rng(len(shape) + shape[0]).normal(size=shape).astype(np.float32)


def an_adapter(folder: Path, tensors: dict[str, Weights] | None = None, **description: object) -> Path:
    folder.mkdir()
    save_file(tensors or {"q.lora_A": draw(2, 3), "q.lora_B": draw(4, 2)}, folder / "adapter.safetensors")
    found = hashlib.sha256((folder / "adapter.safetensors").read_bytes()).hexdigest()
    made = {
        "base_sha256": "b" * 64,
        "adapter_sha256": found,
        "scale": 2.0,
        "recipe": {"steps": 1},
    } | description
    (folder / "adapter.json").write_text(json.dumps(made))
    return folder


def test_a_merge_adds_b_times_a_times_scale(tmp_path: Path) -> None:
    adapter = read_adapter(an_adapter(tmp_path / "law"))
    norm, q = adapter.merge(SHAPES, [draw(3), draw(4, 3)])
    assert np.array_equal(norm, draw(3))
    assert q.dtype == np.float32
    np.testing.assert_allclose(q, draw(4, 3) + 2.0 * draw(4, 2) @ draw(2, 3), rtol=1e-6)
    assert repr(adapter) == "<Adapter law [1 modules, scale 2.0]>"


def test_bfloat16_is_the_upper_half_of_float32() -> None:
    values = np.array([1.0, -2.5, 3.140625, 0.0], dtype=np.float32)
    upper = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    header = TensorHeader("m", "BF16", (2, 2), 0, 8)
    assert float32(upper, header, Path("x")).tolist() == [[1.0, -2.5], [3.140625, 0.0]]


def test_a_matrix_in_another_type_is_refused() -> None:
    with pytest.raises(CheckpointUnreadable, match="is not a matrix in BF16 or F32"):
        float32(bytes(8), TensorHeader("m", "F16", (2, 2), 0, 8), Path("x"))


def test_an_adapter_with_another_hash_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointMismatch, match=r"adapter.safetensors: sha256 is .*, adapter.json says 0000"
    ):
        read_adapter(an_adapter(tmp_path / "law", adapter_sha256="0" * 64))


def test_half_a_pair_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointUnreadable, match="is not one of a pair"):
        read_adapter(an_adapter(tmp_path / "law", {"q.lora_A": draw(2, 3)}))


@pytest.mark.parametrize(
    "tensors",
    [
        {"q.lora_A": draw(2, 5), "q.lora_B": draw(4, 2)},
        {"q.lora_A": draw(3, 3), "q.lora_B": draw(4, 2)},
        {"other.lora_A": draw(2, 3), "other.lora_B": draw(4, 2)},
    ],
)
def test_an_adapter_that_does_not_fit_the_base_is_refused(
    tmp_path: Path, tensors: dict[str, Weights]
) -> None:
    adapter = read_adapter(an_adapter(tmp_path / "law", tensors))
    with pytest.raises(CheckpointMismatch, match="the base has"):
        next(adapter.merge(SHAPES, [draw(3), draw(4, 3)]))


def test_a_missing_description_and_a_malformed_one_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(CheckpointMissing, match=r"adapter.json"):
        read_adapter(tmp_path)
    (tmp_path / "adapter.json").write_text('{"scale": "much", "base_sha256": "", "adapter_sha256": ""}')
    with pytest.raises(CheckpointUnreadable, match=r"adapter.json: scale: "):
        read_adapter(tmp_path)
