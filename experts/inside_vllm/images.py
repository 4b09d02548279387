"""The weights of several experts in one model, of which one computes.

An image is everything of the model that differs between two experts of a family, in the form the kernels
read (engine format). Two ways to activate one:

- ``PointerImages`` (CPU): the model's parameters and packed kernels point at the image. Costs microseconds;
  the worker holds one image per expert and nothing else.
- ``CopyImages`` (CUDA): addresses are captured in CUDA graphs, so the image is copied into the model's own
  tensors, device to device; the worker holds one image per expert and the copy that computes.

``load`` leaves the expert that was active active, whatever happens; an image appears only if it is whole.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

Fill = Callable[[], None]
"""Writes an expert's weights into the model's present tensors, in place."""

KERNEL = "cpu_linear"
"""Where vLLM keeps a linear layer's packed weight on CPU (``dispatch_cpu_unquantized_gemm``)."""


class Images(ABC):
    def __init__(self, model: torch.nn.Module, name: str) -> None:
        """The weights now in ``model`` become the image of ``name``."""
        self._model = model
        self._active: str | None = name

    @property
    def active(self) -> str | None:
        return self._active

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]: ...

    @abstractmethod
    def activate(self, name: str) -> None:
        """The model computes with ``name`` from now on. Raises KeyError when there is no such image."""

    @abstractmethod
    def load(self, name: str, fill: Fill) -> None:
        """Adds or replaces the image of ``name``. What ``fill`` raises is passed on."""

    @abstractmethod
    def drop(self, name: str) -> None:
        """Frees an image. Without the active one nothing can compute until another is activated."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} [active: {self._active}, held: {', '.join(self.names)}]>"


@dataclass(frozen=True, slots=True)
class _Pointers:
    data: tuple[torch.Tensor, ...]
    """One for each tensor of the model, in the order of ``weights_of``."""
    kernels: tuple[Any, ...]
    """The packed kernel of each module that has one."""


class PointerImages(Images):
    """Images the model's tensors point at."""

    def __init__(self, model: torch.nn.Module, name: str) -> None:
        super().__init__(model, name)
        self._weights = weights_of(model)
        self._sizes = tuple(weight.size() for weight in self._weights)
        self._packed = [module for module in model.modules() if KERNEL in vars(module)]
        self._images = {name: self._capture()}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._images)

    def activate(self, name: str) -> None:
        image = self._images[name]
        for weight, data in zip(self._weights, image.data, strict=True):
            weight.data = data
        for module, kernel in zip(self._packed, image.kernels, strict=True):
            vars(module)[KERNEL] = kernel  # Module.__setattr__ would cost more than all the rest
        self._active = name

    def load(self, name: str, fill: Fill) -> None:
        was_active = self._active
        with registered_tensors_kept(self._model):
            self._detach(self._sizes)  # fill writes in place: not into the active image
            try:
                fill()
                self._images[name] = self._capture()
            finally:
                self._leave(was_active)

    def drop(self, name: str) -> None:
        self._images.pop(name, None)
        if name == self._active:
            self._leave(None)

    def _capture(self) -> _Pointers:
        kernels = tuple(vars(module)[KERNEL] for module in self._packed)
        return _Pointers(tuple(weight.data for weight in self._weights), kernels)

    def _detach(self, sizes: tuple[torch.Size, ...]) -> None:
        for weight, size in zip(self._weights, sizes, strict=True):
            weight.data = torch.empty(size, dtype=weight.dtype, device=weight.device)

    def _leave(self, active: str | None) -> None:
        self._active = active
        if active is not None:
            return self.activate(active)
        self._detach((torch.Size([0]),) * len(self._weights))
        for module in self._packed:
            vars(module)[KERNEL] = None
        return None


class CopyImages(Images):
    """Images that are copied into the model's own tensors, whose addresses never change."""

    def __init__(self, model: torch.nn.Module, name: str) -> None:
        super().__init__(model, name)
        self._weights = weights_of(model)
        self._images = {name: self._capture()}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._images)

    def activate(self, name: str) -> None:
        with torch.no_grad():
            torch._foreach_copy_(self._weights, self._images[name])
        self._active = name

    def load(self, name: str, fill: Fill) -> None:
        was_active, self._active = self._active, None
        with registered_tensors_kept(self._model):
            try:
                fill()
                self._images[name] = self._capture()
            finally:
                if was_active is not None:
                    self.activate(was_active)

    def drop(self, name: str) -> None:
        self._images.pop(name, None)
        if name == self._active:
            self._active = None

    def _capture(self) -> list[torch.Tensor]:
        return [weight.detach().clone() for weight in self._weights]


def weights_of(model: torch.nn.Module) -> list[torch.Tensor]:
    """Each tensor a checkpoint fills, once, in a fixed order: parameters and persistent buffers."""
    found: dict[int, torch.Tensor] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                found[id(parameter)] = parameter
        for name, buffer in module._buffers.items():
            if buffer is not None and name not in module._non_persistent_buffers_set:
                found[id(buffer)] = buffer
    return list(found.values())


@contextmanager
def registered_tensors_kept(model: torch.nn.Module) -> Iterator[None]:
    """Afterwards the modules hold the tensors they held before; a reload that fails halfway leaves others."""
    kept = [(module, dict(module._parameters), dict(module._buffers)) for module in model.modules()]
    try:
        yield
    finally:
        for module, parameters, buffers in kept:
            module._parameters.clear()
            module._parameters.update(parameters)
            module._buffers.clear()
            module._buffers.update(buffers)
