"""Reads another checkpoint into a running model (plain mode), and lets tied layers share a packed weight."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from experts.inside_vllm.weights.images import KERNEL


class ReloadExtension:
    """Mixed into an otherwise unmodified worker (``--worker-extension-cls``) for plain mode."""

    def coe_reload(self, weights: str) -> dict[str, Any]:
        """Replaces the weights by those of the folder ``weights``; after an ``error`` they may be a
        mixture."""
        try:
            reload_from(self, Path(weights))
        except Exception as error:  # noqa: BLE001  # raising in one of several workers would leave the others waiting
            return {"error": f"{type(error).__name__}: {error}"}
        return {}

    def coe_forget(self) -> dict[str, Any]:
        """Zeroes the KV pool, which no request uses: attention reads whole blocks, and broken weights may
        have left NaN there."""
        for blocks in self.model_runner.kv_caches:  # type: ignore[attr-defined]
            blocks.zero_()
        return {}


def reload_from(worker: Any, folder: Path) -> None:
    """Calls vLLM's own ``reload_weights``, and lets tied layers compute with the new weights too.

    vLLM 0.32 packs a linear layer's weight for the CPU when the layer's weights have been read; an output
    layer tied to the embedding reads none, and would go on with the weights it was packed from.
    """
    model = worker.model_runner.get_model()
    before = {module: vars(module).get(KERNEL) for module in model.modules()}
    worker.reload_weights(weights_iterator=checkpoint_tensors(folder))
    for layers in tied_layers(model):
        fresh = [layer for layer in layers if vars(layer)[KERNEL] is not before[layer]]
        if fresh:
            share_kernel(layers, fresh[0])


def tied_layers(model: torch.nn.Module) -> list[list[torch.nn.Module]]:
    """Groups layers with packed weights that have the same parameter for a weight."""
    groups: defaultdict[int, list[torch.nn.Module]] = defaultdict(list)
    for module in model.modules():
        if KERNEL in vars(module):
            groups[id(module.weight)].append(module)
    return [layers for layers in groups.values() if len(layers) > 1]


def share_kernel(layers: list[torch.nn.Module], source: torch.nn.Module) -> None:
    """Lets all ``layers`` compute with what ``source`` has packed, which frees the memory of the others."""
    for layer in layers:
        vars(layer)[KERNEL] = vars(source)[KERNEL]


def bytes_packed_beside(model: torch.nn.Module) -> int:
    """Counts the bytes of packed weights whose origin is kept as well (embeddings)."""
    packed = {id(vars(module)[KERNEL]): module for module in model.modules() if KERNEL in vars(module)}
    return sum(module.weight.nbytes for module in packed.values())


def checkpoint_tensors(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Reads the tensors of a checkpoint, one at a time."""
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (not a dict)
                yield name, tensors.get_tensor(name)
