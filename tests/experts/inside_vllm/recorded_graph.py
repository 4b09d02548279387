"""Stands in for CUDA graphs on a CPU: a graph that computes with what was at the captured addresses.

While it is captured, operators are noted with the addresses of their tensors. Replayed, they are computed
from the same addresses again: the expert that is active then makes no difference, and memory that has been
freed meanwhile is found out. What operators make while it is captured belongs to the graph, as in its pool.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only


class FreedWeights(RuntimeError):
    """A graph was replayed, or is still there, and the memory that it reads is not."""


@dataclass(frozen=True, slots=True)
class Address:
    """A tensor that is not the graph's own. It does not keep its memory alive."""

    storage: StorageWeakRef
    data: int
    dtype: torch.dtype
    place: tuple[int, tuple[int, ...], tuple[int, ...]]

    @classmethod
    def of(cls, tensor: torch.Tensor) -> "Address":
        place = (tensor.storage_offset(), tuple(tensor.size()), tuple(tensor.stride()))
        return cls(StorageWeakRef(tensor.untyped_storage()), tensor.data_ptr(), tensor.dtype, place)

    def read(self) -> torch.Tensor:
        storage = torch.UntypedStorage._new_with_weak_ptr(self.storage.cdata)
        if storage is None:
            raise FreedWeights(f"{self.data:#x} was freed")
        found = torch.empty(0, dtype=self.dtype).set_(storage, *self.place)
        assert found.data_ptr() == self.data, "as captured"
        return found


@dataclass(frozen=True, slots=True)
class Operation:
    call: Callable[..., Any]
    arguments: Any
    results: Any
    own: bool
    """Whether the results are new, and not views of arguments."""


@dataclass(eq=False)
class RecordedGraph:
    """Has what vLLM calls of ``torch.cuda.CUDAGraph``."""

    alive: ClassVar[list["RecordedGraph"]] = []
    replayed: ClassVar[int] = 0
    operations: list[Operation] = field(default_factory=list)
    storages: set[int] = field(default_factory=set)

    def replay(self) -> None:
        assert self in self.alive, "it was destroyed"
        RecordedGraph.replayed += 1
        for each in self.operations:
            arguments, named = tree_map_only(Address, Address.read, each.arguments)
            results = each.call(*arguments, **named)
            if each.own:
                for kept, found in zip(tree_leaves(each.results), tree_leaves(results), strict=True):
                    if isinstance(kept, torch.Tensor):
                        kept.copy_(found)

    def reset(self) -> None:
        if self in self.alive:
            self.alive.remove(self)
        self.operations.clear()

    def check(self) -> None:
        """Raises FreedWeights where it could no more be replayed."""
        for each in self.operations:
            tree_map_only(Address, Address.read, each.arguments)


class Capturing(TorchDispatchMode):  # type: ignore[misc]
    """Stands in for ``torch.cuda.graph``."""

    def __init__(self, graph: RecordedGraph, **_: Any) -> None:
        super().__init__()
        self._graph = graph

    def __enter__(self) -> Any:
        RecordedGraph.alive.append(self._graph)
        return super().__enter__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        results = func(*args, **kwargs)
        given = {_storage(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        made = [leaf for leaf in tree_leaves(results) if isinstance(leaf, torch.Tensor)]
        own = bool(made) and not any(_storage(leaf) in given for leaf in made)
        if own:
            self._graph.storages |= {_storage(leaf) for leaf in made}
        noted = tree_map_only(torch.Tensor, self._noted, (args, kwargs))
        self._graph.operations.append(Operation(func, noted, results if own else None, own))
        return results

    def _noted(self, tensor: torch.Tensor) -> torch.Tensor | Address:
        return tensor if _storage(tensor) in self._graph.storages else Address.of(tensor)


class Stream:
    """Stands in for ``torch.cuda.Stream``."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def wait_stream(self, _: Any) -> None: ...


GRAPH_BYTES = 2**20
"""Sizes a graph on the device that stands in."""


def free_bytes(of: int = 2**30) -> int:
    return of - GRAPH_BYTES * len(RecordedGraph.alive)


def install(replace: Callable[[Any, str, Any], None] = setattr) -> None:
    """Replaces what vLLM captures with."""
    from vllm.compilation import cuda_graph
    from vllm.platforms import current_platform

    replace(torch.cuda, "CUDAGraph", RecordedGraph)
    replace(torch.cuda, "graph", Capturing)
    replace(torch.cuda, "Stream", Stream)
    replace(torch.cuda, "current_stream", lambda *_: Stream())
    replace(torch.cuda, "stream", _nothing)
    replace(torch.accelerator, "synchronize", lambda *_: None)
    replace(torch.accelerator, "empty_cache", lambda *_: None)
    replace(torch.accelerator, "get_memory_info", lambda *_: (free_bytes(), 2**30))
    replace(type(current_platform), "_global_graph_pool", (0, 0))
    replace(cuda_graph, "weak_ref_tensors", lambda tensors: tensors)


def _nothing(*_: Any) -> AbstractContextManager[None]:
    return nullcontext()


def _storage(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
