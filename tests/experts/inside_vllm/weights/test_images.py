import weakref

import pytest
import torch

from experts.inside_vllm.weights.images import (
    KERNEL,
    CopyImages,
    Image,
    Images,
    PointerImages,
    in_memory,
    packed_layers,
    weights_of,
)

Linear = torch.nn.functional.linear


class Model(torch.nn.Module):  # type: ignore[misc]
    """An embedding and a layer with a packed kernel, as vLLM has them on CPU."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(4, 2)
        self.layer = torch.nn.Linear(2, 2, bias=False)
        self.register_buffer("scale", torch.full((1,), value))
        self.register_buffer("scratch", torch.zeros(1), persistent=False)
        packed = torch.full((2, 2), value)
        vars(self.layer)[KERNEL] = lambda x: Linear(x, packed)
        with torch.no_grad():
            self.embedding.weight.fill_(value)

    def forward(self) -> float:
        hidden = self.embedding(torch.tensor([0])) * self.scale
        return float(vars(self.layer)[KERNEL](hidden).sum().detach())


def image_of(value: float) -> Image:
    model = Model(value)
    kernels = tuple(vars(layer)[KERNEL] for layer in packed_layers(model))
    return Image(tuple(weight.data for weight in weights_of(model)), kernels)


@pytest.fixture(params=[PointerImages, CopyImages])
def kind(request: pytest.FixtureRequest) -> type[Images]:
    kind: type[Images] = request.param
    return kind


def value_of(kind: type[Images], model: Model) -> float:
    """What the model computes with; only pointers also carry a packed kernel."""
    return model() if kind is PointerImages else float(model.embedding.weight.detach().sum())


def test_an_added_expert_computes_once_activated(kind: type[Images]) -> None:
    model = Model(1.0)
    images = kind(model, "a")
    a = value_of(kind, model)
    images.add("b", image_of(2.0))
    assert (images.active, images.names) == ("a", ("a", "b"))
    assert value_of(kind, model) == a
    images.activate("b")
    assert value_of(kind, model) == value_of(kind, Model(2.0))
    images.activate("a")
    assert value_of(kind, model) == a


def test_replacing_the_active_expert_takes_effect(kind: type[Images]) -> None:
    model = Model(1.0)
    images = kind(model, "a")
    images.add("a", image_of(3.0))
    assert value_of(kind, model) == value_of(kind, Model(3.0))


def test_after_the_last_image_is_dropped_another_can_be_added(kind: type[Images]) -> None:
    model = Model(1.0)
    images = kind(model, "a")
    images.drop("nobody")
    images.drop("a")
    assert (images.active, images.names) == (None, ())
    images.add("b", image_of(2.0))
    images.activate("b")
    assert value_of(kind, model) == value_of(kind, Model(2.0))


def test_copies_keep_the_captured_addresses() -> None:
    model = Model(1.0)
    images = CopyImages(model, "a")
    address = model.embedding.weight.data_ptr()
    images.add("b", image_of(2.0))
    images.activate("b")
    assert model.embedding.weight.data_ptr() == address


def test_a_single_expert_is_copied_nowhere_until_a_second_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    model, clone = Model(1.0), torch.Tensor.clone
    cloned: list[torch.Tensor] = []

    def counted(tensor: torch.Tensor) -> torch.Tensor:
        cloned.append(tensor)
        return clone(tensor)

    monkeypatch.setattr(torch.Tensor, "clone", counted)
    images = CopyImages(model, "a")
    images.activate("a")
    images.add("a", image_of(3.0))
    images.drop("nobody")
    assert cloned == []
    assert value_of(CopyImages, model) == value_of(CopyImages, Model(3.0))
    other = CopyImages(Model(1.0), "a")
    other.add("b", image_of(2.0))
    assert len(cloned) == len(weights_of(model))


def test_without_memory_for_the_second_expert_the_first_computes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(tensor: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    model = Model(1.0)
    images, before = CopyImages(model, "a"), value_of(CopyImages, model)
    monkeypatch.setattr(torch.Tensor, "clone", refused)
    with pytest.raises(torch.OutOfMemoryError):
        images.add("b", image_of(2.0))
    images.activate("a")
    assert (images.active, images.names, value_of(CopyImages, model)) == ("a", ("a",), before)


def test_pointers_hold_one_copy_of_each_expert() -> None:
    model = Model(1.0)
    images = PointerImages(model, "a")
    images.add("b", image_of(2.0))
    addresses = {model.embedding.weight.data_ptr()}
    images.activate("b")
    addresses.add(model.embedding.weight.data_ptr())
    images.drop("a")
    images.drop("b")
    assert len(addresses) == 2
    assert not in_memory(model.embedding.weight)
    assert model.embedding.weight.shape == (4, 2)


class Memory(bytearray):
    """Stands for a file that is mapped: it is there as long as anything looks at a part of it."""


def test_no_part_of_an_image_stays_when_the_active_expert_is_dropped() -> None:
    model = Model(1.0)
    images = PointerImages(model, "a")
    file = Memory(4 * 13)
    gone = weakref.ref(file)
    parts = torch.frombuffer(file, dtype=torch.float32).split(
        [weight.numel() for weight in weights_of(model)]
    )
    shaped = (part.view(weight.shape) for part, weight in zip(parts, weights_of(model), strict=True))
    images.add("b", Image(tuple(shaped), (lambda x: Linear(x, torch.ones(2, 2)),)))
    del file, parts, shaped
    images.activate("b")
    assert gone() is not None
    images.drop("b")
    assert gone() is None
    images.activate("a")
    assert model() == Model(1.0)()
