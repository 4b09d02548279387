"""Reads an expert's checkpoint beside the model that computes, a slice at a time between its steps.

The weights go into a *twin* of the model: modules of the same classes that share all with the model but their
tensors, which start on the meta device. vLLM's layerwise reload gives a layer of the twin memory when the
checkpoint has given all its tensors. So the model itself is never touched, whatever fails and wherever a
slice ends, and a loading holds one image and the layer being read.
"""

import copy
import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from vllm.model_executor.layers.quantization.base_config import QuantizeMethodBase
from vllm.model_executor.model_loader.reload.layerwise import (
    LAYERWISE_INFO,
    _layerwise_process,
    get_layerwise_info,
    initialize_layerwise_reload,
)
from vllm.model_executor.model_loader.reload.meta import SKIP_TENSORS, to_meta_tensor

from experts.errors import CheckpointMismatch, CheckpointUnreadable
from experts.inside_vllm.weights.coverage import is_cache_scale
from experts.inside_vllm.weights.images import KERNEL, Image, in_memory, kept, packed_layers, weights_of
from experts.inside_vllm.weights.slices import Clock, Pace, Slice

_COMPARED_BYTES = 16 * 2**20
"""Bytes of two tied weights that are compared at a time."""


class Loading:
    """Reads and converts one expert. Call ``work`` until it returns True, then take ``image``; ``close`` in
    any case."""

    def __init__(
        self, model: torch.nn.Module, name: str, folder: Path, clock: Clock = time.perf_counter
    ) -> None:
        """``model``: loaded by vLLM, whose layerwise reload recorded what the layers looked like before."""
        self.name = name
        self._model = model
        self._clock = clock
        self._twins: dict[torch.nn.Module, torch.nn.Module] = {}
        self._ready: deque[tuple[torch.nn.Module, QuantizeMethodBase]] = deque()
        """Layers whose weights have been read and not been packed for the kernels."""
        self._reading, self._packing, self._comparing = Pace(), Pace(), Pace()
        self._root = self._twin(model)
        self._files = ExitStack()
        self._pending: deque[tuple[str, Any]] = deque()
        for file in sorted(folder.glob("*.safetensors")):
            tensors = self._files.enter_context(safe_open(file, framework="pt"))
            names = tensors.keys()
            self._pending += [(name, tensors) for name in names if not is_cache_scale(name)]
        self._compared = deque(self._leave_out_tied())
        initialize_layerwise_reload(self._root)
        for twin in self._twins.values():
            get_layerwise_info(twin).kernel_tensors = None  # as at a first load: nothing to copy back into
            method = vars(twin).get("quant_method")
            if isinstance(method, QuantizeMethodBase):
                # A copy: what it finds out about these weights must not change what the model computes.
                vars(twin)["quant_method"] = _Later(copy.copy(method), self._ready)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def work(self, seconds: float) -> bool:
        """Works until ``seconds`` are used, as far as can be foreseen, at least on one tensor or layer, and
        returns True when the expert is whole. Raises CheckpointUnreadable naming a tensor with NaN or
        infinity, CheckpointMismatch where a head of its own would be lost, and what the model's loader
        raises."""
        slice_ = Slice(self._clock, seconds)
        if not self._compare(slice_):
            return False
        self._pack(slice_)
        if self._pending and not self._ready:
            self._root.load_weights(self._tensors(slice_))
            self._pack(slice_)
        if not self._pending and not self._ready:
            for layer in self._half_read():
                if not slice_.allows(self._packing.expects(_size(layer))):
                    return False
                _layerwise_process(layer, get_layerwise_info(layer))
                self._pack(slice_)
        return not self._pending and not self._ready

    def image(self) -> Image:
        """Returns the whole expert. Weights that the checkpoint lacks are those of the model."""
        unread = {twin for twin in self._twins.values() if get_layerwise_info(twin).can_load()}
        read: dict[int, torch.Tensor] = {}
        kernels: dict[int, Any] = {}
        for module, twin in self._twins.items():
            if twin in unread:
                continue
            for name, tensor in _tensors_of(module).items():
                if name not in module._non_persistent_buffers_set:  # which twins may lack, as views of others
                    read[id(tensor)] = _tensors_of(twin)[name].data
            if KERNEL in vars(module):
                kernels[id(module.weight)] = vars(twin)[KERNEL]  # also of the layers tied to this one
        weights = weights_of(self._model)
        if not all(id(tensor) in read or in_memory(tensor) for tensor in weights):
            raise CheckpointUnreadable("a weight of the model is neither in the checkpoint nor in memory")
        return Image(
            tuple(read[id(tensor)] if id(tensor) in read else _of_the_model(tensor) for tensor in weights),
            tuple(kernels.get(id(m.weight), vars(m)[KERNEL]) for m in packed_layers(self._model)),
        )

    def close(self) -> None:
        """Frees all but what ``image`` gave. Idempotent."""
        self._compared.clear()
        self._files.close()
        self._pending.clear()
        self._ready.clear()
        for twin in self._twins.values():  # they and their tensors are circles, collected too late
            LAYERWISE_INFO.pop(twin, None)
            twin.__dict__.clear()
        self._twins.clear()

    def _twin(self, module: torch.nn.Module) -> torch.nn.Module:
        """Makes the twin of ``module`` and of all modules in it."""
        if module in self._twins:
            return self._twins[module]
        twin = self._twins[module] = object.__new__(type(module))
        twin.__dict__.update(module.__dict__)
        twin.__dict__.update(
            _parameters={name: _blank(name, tensor) for name, tensor in module._parameters.items()},
            _buffers={name: _blank(name, tensor) for name, tensor in module._buffers.items()},
            _non_persistent_buffers_set=set(module._non_persistent_buffers_set),
            _modules={name: child and self._twin(child) for name, child in module._modules.items()},
        )
        before, info = get_layerwise_info(module), get_layerwise_info(twin)
        parameters, buffers = before.restore_metadata
        info.restore_metadata = (
            {name: to_meta_tensor(tensor) for name, tensor in parameters.items()},
            {name: to_meta_tensor(tensor) for name, tensor in buffers.items()},
        )
        info.restore_device = before.restore_device
        return twin

    def _leave_out_tied(self) -> Iterator["_Tied"]:
        """Leaves out the second name of a tied weight: a checkpoint may have both, vLLM reads the first.
        Yields the pairs, which have to be equal: else vLLM alone would compute with the second."""
        files = dict(self._pending)
        first: dict[int, str] = {}
        for name, parameter in self._model.named_parameters(remove_duplicate=False):
            if (tied_to := first.setdefault(id(parameter), name)) != name and tied_to in files:
                if name in files:
                    yield _Tied(tied_to, files[tied_to].get_slice(tied_to), name, files[name].get_slice(name))
                files.pop(name, None)
        self._pending = deque(files.items())

    def _compare(self, slice_: Slice) -> bool:
        """Compares tied weights, some rows at a time, and returns True when all are equal."""
        while self._compared:
            pair = self._compared[0]
            if not slice_.allows(self._comparing.expects(_COMPARED_BYTES)):
                return False
            began = self._clock()
            if pair.compare(_COMPARED_BYTES):
                self._compared.popleft()
            self._comparing.took(_COMPARED_BYTES, self._clock() - began)
        return True

    def _tensors(self, slice_: Slice) -> Iterator[tuple[str, torch.Tensor]]:
        """Yields tensors to the model's loader, which has written one when it asks for the next."""
        while self._pending and not self._ready:
            name, file = self._pending[0]
            tensor = file.get_tensor(name)
            if not slice_.allows(self._reading.expects(tensor.nbytes)):
                return
            began = self._clock()
            check_numbers(name, tensor)
            self._pending.popleft()
            yield name, tensor
            self._reading.took(tensor.nbytes, self._clock() - began)
            self._pack(slice_)

    def _pack(self, slice_: Slice) -> None:
        """Packs layers that are ready for the kernels."""
        while self._ready:
            layer, method = self._ready[0]
            size, began = _size(layer), self._clock()
            if not slice_.allows(self._packing.expects(size)):
                return
            method.process_weights_after_loading(layer)
            self._ready.popleft()
            self._packing.took(size, self._clock() - began)

    def _half_read(self) -> list[torch.nn.Module]:
        """Lists layers with fewer weights in the checkpoint than in the model (a padded vocabulary)."""
        infos = [(twin, get_layerwise_info(twin)) for twin in self._twins.values()]
        return [twin for twin, info in infos if info.can_load() and info.load_numel > 0]

    def __repr__(self) -> str:
        return f"<Loading {self.name} [tensors to read: {len(self._pending)}, to pack: {len(self._ready)}]>"


class _Tied:
    """Two weights of a checkpoint that are one in the model."""

    def __init__(self, name: str, weight: Any, other_name: str, other: Any) -> None:
        """``weight``, ``other``: slices of files, as safetensors has them."""
        self._names = name, other_name
        self._weights = weight, other
        self._row = 0

    def compare(self, size: int) -> bool:
        """Compares the next ``size`` bytes, at least a row, and returns True at the end. Raises
        CheckpointMismatch."""
        one, other = self._weights
        rows, *rest = one.get_shape()
        if one.get_shape() != other.get_shape() or one.get_dtype() != other.get_dtype():
            self._refuse()
        width = 4 * math.prod(rest)
        end = min(rows, self._row + max(1, size // max(1, width)))
        if not torch.equal(one[self._row : end], other[self._row : end]):
            self._refuse()
        self._row = end
        return bool(end == rows)

    def _refuse(self) -> None:
        raise CheckpointMismatch(
            f"{self._names[1]} is tied to {self._names[0]} in the checkpoint that the engine started with, "
            "and is another weight here; put the expert in a family of its own"
        )


class _Later(QuantizeMethodBase):
    """Stands in for a layer's method while the layer is read, and notes that it is to be packed."""

    def __init__(
        self, method: QuantizeMethodBase, ready: deque[tuple[torch.nn.Module, QuantizeMethodBase]]
    ) -> None:
        self._method = method
        self._ready = ready

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        self._ready.append((layer, self._method))

    def create_weights(self, *args: Any, **kwargs: Any) -> None:
        self._method.create_weights(*args, **kwargs)

    def apply(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return self._method.apply(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._method, name)


def check_numbers(name: str, tensor: torch.Tensor) -> None:
    """Raises CheckpointUnreadable where ``tensor`` holds NaN or infinity. One pass, no copy."""
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return
    values = tensor.float() if tensor.itemsize == 1 else tensor
    if not all(bool(torch.isfinite(bound)) for bound in torch.aminmax(values)):
        raise CheckpointUnreadable(
            f"tensor {name} holds NaN or infinity; fetch or prepare the checkpoint again"
        )


def _of_the_model(tensor: torch.Tensor) -> torch.Tensor:
    """Returns the model's own values for a weight that the checkpoint lacks."""
    return tensor.data if isinstance(tensor, torch.nn.Parameter) else kept(tensor)


def _blank(name: str, tensor: torch.Tensor | None) -> torch.Tensor | None:
    """Copies one of the few tensors (biases) that layerwise reload reads in place; the others get memory from
    it."""
    if tensor is None or name not in SKIP_TENSORS:
        return tensor
    blank = tensor.data.clone()
    blank.__class__ = tensor.__class__
    blank.__dict__ = tensor.__dict__.copy()
    return blank


def _tensors_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    both = {**module._parameters, **module._buffers}
    return {name: tensor for name, tensor in both.items() if tensor is not None}


def _size(layer: torch.nn.Module) -> int:
    return sum(tensor.nbytes for tensor in _tensors_of(layer).values())
