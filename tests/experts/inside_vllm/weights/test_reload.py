from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors.torch import save_file

from experts.inside_vllm.weights.images import KERNEL
from experts.inside_vllm.weights.reload import ReloadExtension, bytes_packed_beside, share_kernel, tied_layers


class Worker(ReloadExtension):
    """Reloads as vLLM 0.32 does on CPU: what is in the checkpoint is packed anew, a tied head is not."""

    def __init__(self) -> None:
        model = torch.nn.Module()
        model.embedding = torch.nn.Embedding(4, 2)
        model.head = torch.nn.Linear(2, 4, bias=False)
        model.head.weight = model.embedding.weight
        for layer in (model.embedding, model.head):
            vars(layer)[KERNEL] = object()
        self.model = model
        self.model_runner = SimpleNamespace(get_model=lambda: model)

    def reload_weights(self, weights_iterator: Iterator[tuple[str, torch.Tensor]]) -> None:
        for name, tensor in weights_iterator:
            layer = self.model.get_submodule(name.removesuffix(".weight"))
            layer.weight.data.copy_(tensor)
            vars(layer)[KERNEL] = object()


def kernel(layer: torch.nn.Module) -> object:
    return vars(layer)[KERNEL]


def test_a_tied_head_computes_with_what_was_reloaded(tmp_path: Path) -> None:
    save_file({"embedding.weight": torch.ones(4, 2)}, tmp_path / "model.safetensors")
    worker = Worker()
    old = kernel(worker.model.head)
    assert worker.coe_reload(str(tmp_path)) == {}
    assert kernel(worker.model.head) is not old
    assert kernel(worker.model.head) is kernel(worker.model.embedding)


def test_a_reload_that_fails_is_an_answer(tmp_path: Path) -> None:
    save_file({"embedding.weight": torch.ones(3, 2)}, tmp_path / "model.safetensors")
    assert "RuntimeError" in Worker().coe_reload(str(tmp_path))["error"]


def test_tied_layers_that_share_a_kernel_hold_it_once() -> None:
    model = Worker().model
    assert bytes_packed_beside(model) == 2 * 4 * 2 * 4
    (layers,) = tied_layers(model)
    share_kernel(layers, layers[0])
    assert bytes_packed_beside(model) == 4 * 2 * 4
