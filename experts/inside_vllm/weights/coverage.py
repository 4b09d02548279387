"""Finds what a model derives from its weights and no image carries: the next expert would compute with it.

1. Tensors beside parameters and buffers, on a layer or in its quantisation method (MLA's ``W_UV``).
2. Buffers that are views of a parameter: activating by pointers leaves them where they are.
3. Scales of an FP8 KV pool: attention keeps them as numbers as well. A family may have one set of them.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from experts.errors import CheckpointMismatch
from experts.inside_vllm.weights.images import KERNEL, weights_of

_SCALE = re.compile(r"\.(?:kv|[kvq]|prob)_scale$|\.[kvq]_zero_point$|\.(?:q|[kv]_cache)\.scale$")
"""Names of the scales in a checkpoint (``maybe_remap_kv_scale_name`` of vLLM)."""
_CARRIED = ("_parameters", "_buffers", "_modules", KERNEL)
_DEPTH = 3
"""Objects within objects that are looked into."""
Scales = dict[str, list[float]]


def derived_state(model: torch.nn.Module, *, pointers: bool) -> str | None:
    """Names the first tensor of a loaded ``model`` that no image carries; None where all are carried.
    ``pointers``: whether images are activated by pointers."""
    covered = {id(weight) for weight in weights_of(model)}
    storages = {weight.untyped_storage().data_ptr() for weight in weights_of(model)} - {0}
    for name, module in model.named_modules():
        for attribute, value in vars(module).items():
            if attribute in _CARRIED:
                continue
            if any(id(tensor) not in covered for tensor in _tensors(value, _DEPTH)):
                return f"{name}.{attribute}"
        for attribute, buffer in module._buffers.items():
            view = buffer is not None and attribute in module._non_persistent_buffers_set
            if pointers and view and buffer.untyped_storage().data_ptr() in storages:
                return f"{name}.{attribute}"
    return None


def cache_scales(folder: Path) -> Scales:
    """Reads the scales of the KV pool that a checkpoint has, by their names."""
    found: Scales = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in filter(is_cache_scale, tensors.keys()):
                found[name] = tensors.get_tensor(name).float().flatten().tolist()
    return found


def is_cache_scale(name: str) -> bool:
    """Tells a scale of the KV pool from a weight's."""
    return _SCALE.search(name) is not None


def check_same_scales(folder: Path, expected: Scales, found: Scales) -> None:
    """Raises CheckpointMismatch naming a scale of ``folder``, with the scales ``found``, that is not as
    ``expected``."""
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise CheckpointMismatch(
                f"{folder}: {name} is {found.get(name)}, the engine computes with {expected.get(name)}, "
                "which no image carries; put the expert in a family of its own, or say mode: plain"
            )


def _tensors(value: Any, depth: int) -> Iterator[torch.Tensor]:
    """Yields the tensors of more than one number with a fraction in ``value``. Single numbers are scales (3)
    and constants; integers are scratch and places."""
    if isinstance(value, torch.Tensor):
        if value.is_floating_point() and value.numel() > 1:
            yield value
    elif depth == 0 or isinstance(value, torch.nn.Module | torch.dtype | type):
        return
    elif isinstance(value, dict):
        for each in value.values():
            yield from _tensors(each, depth - 1)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _tensors(each, depth - 1)
    elif hasattr(value, "__dict__") and not callable(value):
        for each in vars(value).values():
            yield from _tensors(each, depth - 1)
