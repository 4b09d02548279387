"""vLLM's own layerwise reload on a small model with tied, packed and plain layers and a bias."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from experts.errors import CheckpointMismatch, CheckpointUnreadable
from experts.inside_vllm.weights.images import KERNEL, CopyImages, Images, PointerImages

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # vLLM's imports
    from vllm.model_executor.layers.quantization.base_config import QuantizeMethodBase
    from vllm.model_executor.model_loader.reload import record_metadata_for_reloading
    from vllm.model_executor.model_loader.reload.layerwise import LAYERWISE_INFO
    from vllm.model_executor.model_loader.weight_utils import default_weight_loader

    from experts.inside_vllm.weights.loading import Loading, check_numbers


class Packs(QuantizeMethodBase):  # type: ignore[misc]
    """As vLLM's methods on CPU: packs, and keeps the weight only of embeddings and the head tied to one."""

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        packed = layer.weight.detach().clone()
        vars(layer)[KERNEL] = lambda x: torch.nn.functional.linear(x, packed)
        if layer.weight.shape != (8, 2):
            layer.weight = torch.nn.Parameter(torch.empty(0), requires_grad=False)

    def create_weights(self, *args: Any) -> None: ...

    def apply(self, *args: Any) -> None: ...


class Model(torch.nn.Module):  # type: ignore[misc]
    def __init__(self, folder: Path, packing: bool) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(8, 2)
        self.blocks = torch.nn.ModuleList(
            torch.nn.ModuleDict({"up": torch.nn.Linear(2, 2), "norm": torch.nn.LayerNorm(2, bias=False)})
            for _ in range(3)
        )
        self.head = torch.nn.Linear(2, 8, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("fixed", torch.full((1,), 5.0))  # in no checkpoint
        self.requires_grad_(False)
        layers = [self.embedding, self.head, *(block["up"] for block in self.blocks)]
        if packing:
            for layer in layers:
                layer.quant_method = Packs()
        record_metadata_for_reloading(self)
        self.load_weights((name, value) for name, value in checkpoint(folder).items())
        if packing:
            for layer in layers:
                layer.quant_method.process_weights_after_loading(layer)

    def load_weights(self, weights: Iterator[tuple[str, torch.Tensor]]) -> None:
        parameters = dict(self.named_parameters(remove_duplicate=False))
        for name, value in weights:
            parameter = parameters[name]
            getattr(parameter, "weight_loader", default_weight_loader)(parameter, value)

    def forward(self) -> list[float]:
        hidden = self.embedding(torch.tensor([3]))
        for block in self.blocks:
            hidden = block["norm"](self._linear(block["up"], hidden) + block["up"].bias)
        logits: list[float] = (self._linear(self.head, hidden) + self.fixed).flatten().tolist()
        return logits

    def _linear(self, layer: Any, x: torch.Tensor) -> torch.Tensor:
        if KERNEL in vars(layer):
            packed: torch.Tensor = vars(layer)[KERNEL](x)
            return packed
        return torch.nn.functional.linear(x, layer.weight)


def value_of(model: Model) -> list[float]:
    logits: list[float] = model()
    return logits


def checkpoint(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(folder / "model.safetensors"))


def made(folder: Path, seed: int, **changed: torch.Tensor) -> Path:
    random = torch.Generator().manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (8, 2)}
    for number in range(3):
        shapes[f"blocks.{number}.up.weight"] = (2, 2)
        shapes[f"blocks.{number}.up.bias"] = (2,)
        shapes[f"blocks.{number}.norm.weight"] = (2,)
    tensors = {name: torch.randn(shape, generator=random) for name, shape in shapes.items()}
    folder.mkdir()
    save_file({**tensors, **changed}, folder / "model.safetensors")
    return folder


@dataclass
class Bench:
    kind: type[Images]
    a: Path
    b: Path
    model: Model = field(init=False)
    images: Images = field(init=False)

    def __post_init__(self) -> None:
        self.model = Model(self.a, self.packing)
        self.images = self.kind(self.model, "a")

    @property
    def packing(self) -> bool:
        """Only pointers carry packed kernels."""
        return self.kind is PointerImages

    def alone(self, folder: Path) -> list[float]:
        return value_of(Model(folder, self.packing))

    def loading(self, folder: Path) -> Loading:
        return Loading(self.model, "b", folder, clock=iter(range(10**6)).__next__)  # every look costs 1 s

    def addresses(self) -> list[int]:
        return [tensor.data_ptr() for tensor in self.model.state_dict().values()]


@pytest.fixture(params=[PointerImages, CopyImages])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    return Bench(request.param, made(tmp_path / "a", 1), made(tmp_path / "b", 2))


def test_between_slices_the_active_expert_computes_and_nothing_moves(bench: Bench) -> None:
    before, addresses = value_of(bench.model), bench.addresses()
    loading = bench.loading(bench.b)
    slices = 1
    while not loading.work(0.5):
        slices += 1
        assert value_of(bench.model) == before
        assert bench.addresses() == addresses
    assert slices >= 10, "a tensor or a layer at a time"
    bench.images.add("b", loading.image())
    loading.close()
    assert value_of(bench.model) == before
    bench.images.activate("b")
    assert value_of(bench.model) == bench.alone(bench.b) != before
    bench.images.activate("a")
    assert value_of(bench.model) == before


def test_with_time_enough_one_slice_is_all(bench: Bench) -> None:
    assert bench.loading(bench.b).work(1e9)


def test_the_model_may_switch_while_another_expert_is_loaded(bench: Bench, tmp_path: Path) -> None:
    c = made(tmp_path / "c", 3)
    first = bench.loading(bench.b)
    assert first.work(1e9)
    bench.images.add("b", first.image())
    second = bench.loading(c)
    names = iter(("a", "b") * 100)
    while not second.work(0.5):
        bench.images.activate(next(names))
    bench.images.add("c", second.image())
    for name, folder in (("a", bench.a), ("b", bench.b), ("c", c)):
        bench.images.activate(name)
        assert value_of(bench.model) == bench.alone(folder)


def test_a_load_that_is_abandoned_leaves_nothing(bench: Bench) -> None:
    before, known = value_of(bench.model), len(LAYERWISE_INFO)
    loading = bench.loading(bench.b)
    for _ in range(6):
        assert not loading.work(0.5)
    assert len(LAYERWISE_INFO) > known
    loading.close()
    loading.close()
    assert len(LAYERWISE_INFO) == known
    assert value_of(bench.model) == before


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_no_number_is_refused_by_name(bench: Bench, value: float, tmp_path: Path) -> None:
    before = value_of(bench.model)
    broken = torch.tensor([[1.0, 2.0], [3.0, value]])
    loading = bench.loading(made(tmp_path / "c", 3, **{"blocks.1.up.weight": broken}))
    with pytest.raises(CheckpointUnreadable, match=r"blocks\.1\.up\.weight"):
        loading.work(1e9)
    loading.close()
    assert value_of(bench.model) == before
    again = bench.loading(bench.b)
    assert again.work(1e9)


def test_a_slice_that_fails_changes_nothing(bench: Bench, tmp_path: Path) -> None:
    before, addresses = value_of(bench.model), bench.addresses()
    loading = bench.loading(made(tmp_path / "c", 3, **{"blocks.2.up.weight": torch.ones(3, 3)}))
    with pytest.raises((RuntimeError, AssertionError)):
        loading.work(1e9)
    loading.close()
    assert value_of(bench.model) == before
    assert bench.addresses() == addresses


def test_an_expert_can_be_loaded_when_none_is_left(bench: Bench) -> None:
    bench.images.drop("a")
    loading = bench.loading(bench.b)
    assert loading.work(1e9)
    bench.images.add("b", loading.image())
    bench.images.activate("b")
    assert value_of(bench.model) == bench.alone(bench.b)


def test_what_is_in_no_checkpoint_comes_along_in_memory_of_its_own(bench: Bench) -> None:
    loading = bench.loading(bench.b)
    assert loading.work(1e9)
    fixed = next(buffer for buffer in loading.image().data if buffer.shape == (1,))
    assert fixed.tolist() == [5.0]
    assert fixed.data_ptr() != bench.model.fixed.data_ptr()


def test_a_tied_weight_under_both_its_names_is_read_once(bench: Bench, tmp_path: Path) -> None:
    both = made(tmp_path / "c", 2, **{"head.weight": checkpoint(bench.b)["embedding.weight"].clone()})
    loading = bench.loading(both)
    assert loading.work(1e9)
    bench.images.add("b", loading.image())
    bench.images.activate("b")
    assert value_of(bench.model) == bench.alone(bench.b)


def test_a_head_of_its_own_is_refused_where_the_family_ties_it(bench: Bench, tmp_path: Path) -> None:
    before = value_of(bench.model)
    loading = bench.loading(made(tmp_path / "c", 2, **{"head.weight": torch.full((8, 2), 9.0)}))
    with pytest.raises(CheckpointMismatch, match=r"head\.weight is tied to embedding\.weight"):
        loading.work(1e9)
    loading.close()
    assert value_of(bench.model) == before


def test_a_view_of_a_weight_is_no_weight_of_its_own(bench: Bench) -> None:
    """As Mamba2's ``conv_weights``: vLLM's reload gives a twin no such buffer."""
    norm = bench.model.blocks[1]["norm"]
    norm.register_buffer("view", norm.weight.data.view(1, 2), persistent=False)
    record_metadata_for_reloading(bench.model.blocks[1]["norm"])
    loading = bench.loading(bench.b)
    assert loading.work(1e9)
    bench.images.add("b", loading.image())
    bench.images.activate("b")
    assert value_of(bench.model) == bench.alone(bench.b)


def test_what_a_method_finds_out_about_another_expert_does_not_change_what_is_computed(
    tmp_path: Path,
) -> None:
    """As a quantised mixture's method, which keeps its layer's scales."""

    class Keeps(Packs):
        scale = 0.0

        def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
            self.scale = float(layer.weight.sum())

    a, b = made(tmp_path / "a", 1), made(tmp_path / "b", 2)
    model = Model(a, packing=False)
    method = model.blocks[0]["up"].quant_method = Keeps()
    method.process_weights_after_loading(model.blocks[0]["up"])
    before = method.scale
    loading = Loading(model, "b", b)
    assert loading.work(1e9)
    assert method.scale == before != 0.0


@pytest.mark.parametrize(
    "tensor", [torch.ones(3, dtype=torch.int64), torch.empty(0), torch.ones(2).bfloat16()]
)
def test_numbers_of_any_type_are_let_through(tensor: torch.Tensor) -> None:
    check_numbers("x", tensor)
