from collections.abc import Callable

import pytest
import torch

from experts.inside_vllm.images import KERNEL, CopyImages, Images, PointerImages

Linear = torch.nn.functional.linear


class Model(torch.nn.Module):  # type: ignore[misc]
    """An embedding and a layer with a packed kernel, as vLLM has them on CPU."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(4, 2)
        self.layer = torch.nn.Linear(2, 2, bias=False)
        self.register_buffer("scale", torch.ones(1))
        self.register_buffer("scratch", torch.zeros(1), persistent=False)
        fill(self, value)()

    def forward(self) -> float:
        hidden = self.embedding(torch.tensor([0])) * self.scale
        return float(vars(self.layer)[KERNEL](hidden).sum().detach())


def fill(model: Model, value: float) -> Callable[[], None]:
    """Writes in place and packs anew, as vLLM's reload does."""

    def write() -> None:
        with torch.no_grad():
            model.embedding.weight.fill_(value)
            model.scale.fill_(value)
            packed = torch.full((2, 2), value)
        vars(model.layer)[KERNEL] = lambda x: Linear(x, packed)

    return write


def fill_half(model: Model) -> Callable[[], None]:
    def write() -> None:
        with torch.no_grad():
            model.embedding.weight.fill_(99)
        model.layer.weight = torch.nn.Parameter(torch.empty(1, device="meta"))
        raise ValueError("tensor 17 is broken")

    return write


@pytest.fixture(params=[PointerImages, CopyImages])
def kind(request: pytest.FixtureRequest) -> type[Images]:
    kind: type[Images] = request.param
    return kind


def value_of(kind: type[Images], model: Model) -> float:
    """What the model computes with; only pointers also carry a packed kernel."""
    return model() if kind is PointerImages else float(model.embedding.weight.detach().sum())


def test_a_loaded_expert_computes_once_activated(kind: type[Images]) -> None:
    model = Model(1.0)
    images = kind(model, "a")
    a = value_of(kind, model)
    images.load("b", fill(model, 2.0))
    assert (images.active, images.names) == ("a", ("a", "b"))
    assert value_of(kind, model) == a
    images.activate("b")
    assert value_of(kind, model) == value_of(kind, Model(2.0))
    images.activate("a")
    assert value_of(kind, model) == a


def test_a_load_that_fails_halfway_changes_nothing(kind: type[Images]) -> None:
    model = Model(1.0)
    images = kind(model, "a")
    weight = model.layer.weight
    with pytest.raises(ValueError, match="tensor 17"):
        images.load("b", fill_half(model))
    assert (images.active, images.names) == ("a", ("a",))
    assert model.layer.weight is weight
    assert value_of(kind, model) == value_of(kind, Model(1.0))


def test_reloading_the_active_expert_takes_effect(kind: type[Images]) -> None:
    model = Model(1.0)
    images = kind(model, "a")
    images.load("a", fill(model, 3.0))
    assert value_of(kind, model) == value_of(kind, Model(3.0))


def test_reloading_the_active_expert_that_fails_keeps_it(kind: type[Images]) -> None:
    model = Model(1.0)
    images = kind(model, "a")
    with pytest.raises(ValueError, match="tensor 17"):
        images.load("a", fill_half(model))
    assert value_of(kind, model) == value_of(kind, Model(1.0))


def test_after_the_last_image_is_dropped_another_can_be_loaded(kind: type[Images]) -> None:
    model = Model(1.0)
    images = kind(model, "a")
    images.drop("nobody")
    images.drop("a")
    assert (images.active, images.names) == (None, ())
    images.load("b", fill(model, 2.0))
    images.activate("b")
    assert value_of(kind, model) == value_of(kind, Model(2.0))


def test_copies_keep_the_captured_addresses() -> None:
    model = Model(1.0)
    images = CopyImages(model, "a")
    address = model.embedding.weight.data_ptr()
    images.load("b", fill(model, 2.0))
    images.activate("b")
    assert model.embedding.weight.data_ptr() == address


def test_pointers_hold_one_copy_of_each_expert() -> None:
    model = Model(1.0)
    images = PointerImages(model, "a")
    images.load("b", fill(model, 2.0))
    addresses = {model.embedding.weight.data_ptr()}
    images.activate("b")
    addresses.add(model.embedding.weight.data_ptr())
    images.drop("a")
    images.drop("b")
    assert len(addresses) == 2
    assert model.embedding.weight.numel() == 0
