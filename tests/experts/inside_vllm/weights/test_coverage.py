"""A model that keeps something of its weights beside them is found out."""

import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from experts.errors import CheckpointMismatch
from experts.inside_vllm.weights.coverage import cache_scales, check_same_scales, derived_state

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # vLLM's imports
    from vllm.model_executor.layers.quantization.base_config import QuantizeMethodBase


class Method(QuantizeMethodBase):  # type: ignore[misc]
    def __init__(self, config: dict[str, object]) -> None:
        self.config = config

    def create_weights(self, *args: object) -> None: ...

    def apply(self, *args: object) -> None: ...


class Model(torch.nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 4)
        self.layer.register_buffer("table", torch.randn(8), persistent=False)  # as a rotary embedding's
        self.layer.scale, self.layer.scratch = torch.tensor(1.0), torch.zeros(4, dtype=torch.int32)
        self.layer.kv_cache, self.layer.size = torch.tensor([]), (4, 4)


def test_a_plain_model_derives_nothing() -> None:
    assert derived_state(Model(), pointers=True) is None


def test_a_matrix_that_attention_derives_is_found() -> None:
    model = Model()
    model.layer.W_UV = model.layer.weight.detach() @ model.layer.weight.detach()
    assert derived_state(model, pointers=False) == "layer.W_UV"


def test_a_methods_own_tensor_is_found_and_one_that_is_a_parameter_is_carried() -> None:
    model = Model()
    model.layer.quant_method = Method({"scale": model.layer.weight})
    assert derived_state(model, pointers=True) is None
    model.layer.quant_method = Method({"scale": [model.layer.weight.detach() * 2]})
    assert derived_state(model, pointers=True) == "layer.quant_method"


def test_a_view_of_a_weight_is_carried_by_a_copy_and_not_by_a_pointer() -> None:
    model = Model()
    model.layer.register_buffer("view", model.layer.weight.detach().view(16), persistent=False)
    assert derived_state(model, pointers=False) is None
    assert derived_state(model, pointers=True) == "layer.view"


def test_scales_of_the_cache_that_differ_are_refused(tmp_path: Path) -> None:
    names = ["layers.0.self_attn.k_scale", "layers.0.self_attn.v_proj.v_scale"]
    save_file(
        {name: torch.tensor(0.5) for name in names} | {"a.weight_scale": torch.ones(2)},
        tmp_path / "a.safetensors",
    )
    ours = cache_scales(tmp_path)
    assert ours == {name: [0.5] for name in names}
    check_same_scales(tmp_path, ours, dict(ours))
    with pytest.raises(CheckpointMismatch, match=r"k_scale is \[0\.25\], the engine computes with \[0\.5\]"):
        check_same_scales(tmp_path, ours, {**ours, names[0]: [0.25]})
