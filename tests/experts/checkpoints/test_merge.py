"""A merge is its arithmetic, and an adapter that does not fit its base is refused."""

from pathlib import Path

import numpy as np
import pytest

from experts.checkpoints.merge import merged
from experts.checkpoints.peft import read_adapter
from experts.checkpoints.safetensors_writer import Weights
from experts.checkpoints.tensor_headers import TensorHeader
from experts.errors import CheckpointMismatch
from tests.experts.checkpoints.peft_adapter import MODULE, A, B, an_adapter

BASE = [TensorHeader("norm.weight", "F32", (3,)), TensorHeader(f"{MODULE}.weight", "F32", (4, 3))]


def draw(*shape: int) -> Weights:
    return np.random.default_rng(len(shape) + shape[0]).normal(size=shape).astype(np.float32)


def test_a_merge_adds_b_times_a_times_scale(tmp_path: Path) -> None:
    adapter = read_adapter(an_adapter(tmp_path / "law", {A: draw(2, 3), B: draw(4, 2)}))
    assert adapter.scale == 2.0
    norm, q = merged(adapter, BASE, [draw(3), draw(4, 3)])
    assert np.array_equal(norm, draw(3))
    assert q.dtype == np.float32
    np.testing.assert_allclose(q, draw(4, 3) + 2.0 * draw(4, 2) @ draw(2, 3), rtol=1e-6)


@pytest.mark.parametrize(
    "tensors",
    [
        {A: draw(2, 5), B: draw(4, 2)},
        {A: draw(2, 3), B: draw(4, 3)},
        {A.replace("q_proj", "other"): draw(2, 3), B.replace("q_proj", "other"): draw(4, 2)},
    ],
    ids=["inputs", "ranks", "module"],
)
def test_an_adapter_that_does_not_fit_the_base_is_refused_before_the_first_tensor(
    tmp_path: Path, tensors: dict[str, Weights]
) -> None:
    adapter = read_adapter(an_adapter(tmp_path / "law", tensors))
    with pytest.raises(CheckpointMismatch, match="made for another base"):
        next(merged(adapter, BASE, [draw(3), draw(4, 3)]))
