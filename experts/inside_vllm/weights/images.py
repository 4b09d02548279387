"""The weights of several experts in one model, of which one computes.

An image is everything of the model that differs between two experts of a family, in the form that kernels
read (engine format). There are two ways to activate one:

- ``PointerImages`` (CPU): the model's parameters and packed kernels point at the image. Costs microseconds;
  the worker holds one image per expert and nothing else.
- ``CopyImages`` (CUDA): addresses are captured in CUDA graphs, so the image is copied into the model's own
  tensors, device to device; the worker holds one image per expert and the copy that computes. While it
  holds one expert, the model's own tensors are its only copy.

An image is made elsewhere, whole (``loading.Loading``); adding one leaves the active expert active.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch

KERNEL = "cpu_linear"
"""Where vLLM keeps a linear layer's packed weight on CPU (``dispatch_cpu_unquantized_gemm``)."""


@dataclass(frozen=True, slots=True)
class Image:
    """The weights of one expert in engine format."""

    data: tuple[torch.Tensor, ...]
    """A tensor for each of the model's, in the order of ``weights_of``."""
    kernels: tuple[Any, ...] = ()
    """The packed kernel of each layer, in the order of ``packed_layers``."""


class Images(ABC):
    """The images of a model, one of which may be active."""

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
        """Lets the model compute with ``name``. Raises KeyError when there is no such image."""

    @abstractmethod
    def add(self, name: str, image: Image) -> None:
        """Adds or replaces the image of ``name``."""

    @abstractmethod
    def drop(self, name: str) -> None:
        """Frees an image. Without the active one nothing can compute until another is activated."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} [active: {self._active}, held: {', '.join(self.names)}]>"


class PointerImages(Images):
    """Images that the model's tensors point at."""

    def __init__(self, model: torch.nn.Module, name: str) -> None:
        super().__init__(model, name)
        self._weights = weights_of(model)
        self._packed = packed_layers(model)
        kernels = tuple(vars(module)[KERNEL] for module in self._packed)
        self._images = {name: Image(tuple(weight.data for weight in self._weights), kernels)}

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

    def add(self, name: str, image: Image) -> None:
        self._images[name] = image
        if name == self._active:
            self.activate(name)

    def drop(self, name: str) -> None:
        self._images.pop(name, None)
        if name != self._active:
            return
        self._active = None
        for weight in self._weights:
            if isinstance(weight, torch.nn.Parameter):
                weight.data = weight.new_zeros(()).expand(weight.size())  # the shape without the memory
            else:
                weight.data = kept(weight)
        for module in self._packed:
            vars(module)[KERNEL] = None


class CopyImages(Images):
    """Images that are copied into the model's own tensors, whose addresses never change."""

    def __init__(self, model: torch.nn.Module, name: str) -> None:
        super().__init__(model, name)
        self._weights = weights_of(model)
        self._images: dict[str, tuple[torch.Tensor, ...]] = {}
        self._alone: str | None = name
        """The expert whose only copy is in the model's own tensors, before there was a second one."""

    @property
    def names(self) -> tuple[str, ...]:
        return (self._alone, *self._images) if self._alone is not None else tuple(self._images)

    def activate(self, name: str) -> None:
        if name != self._alone:
            with torch.no_grad():
                torch._foreach_copy_(self._weights, list(self._images[name]))
        self._active = name

    def add(self, name: str, image: Image) -> None:
        if self._alone is not None:
            if name != self._alone:  # what computes now has to be kept elsewhere
                self._images[self._alone] = tuple(weight.detach().clone() for weight in self._weights)
            self._alone = None
        self._images[name] = image.data
        if name == self._active:
            self.activate(name)

    def drop(self, name: str) -> None:
        self._images.pop(name, None)
        if name == self._alone:
            self._alone = None
        if name == self._active:
            self._active = None


def weights_of(model: torch.nn.Module) -> list[torch.Tensor]:
    """Lists each tensor that a checkpoint fills once, in a fixed order: parameters and persistent buffers."""
    found: dict[int, torch.Tensor] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                found[id(parameter)] = parameter
        for name, buffer in module._buffers.items():
            if buffer is not None and name not in module._non_persistent_buffers_set:
                found[id(buffer)] = buffer
    return list(found.values())


def kept(buffer: torch.Tensor) -> torch.Tensor:
    """Copies a buffer's values to memory of their own. Buffers may be in no checkpoint, and are small; but a
    view of a mapped image, however small, would keep all of that image in memory."""
    return buffer.data.clone()


def packed_layers(model: torch.nn.Module) -> list[torch.nn.Module]:
    """Lists the layers whose weight vLLM has packed for the CPU."""
    return [module for module in model.modules() if KERNEL in vars(module)]


def in_memory(weight: torch.Tensor) -> bool:
    """Tells a weight from what ``PointerImages.drop`` leaves in its place."""
    return bool(weight.untyped_storage().nbytes() >= weight.nbytes)
