"""CUDA graphs of several experts of one model, a set for each, of which vLLM sees the active expert's.

A captured graph reads weights at the addresses that they had while it was captured. So where experts are
pointed at (``PointerImages``), each has graphs of its own, and a switch changes pointers on both sides.

1. ``show`` puts an expert's graphs into vLLM's wrappers, and their sizes into its dispatcher: a batch of a
   size that the expert has no graph of is computed without one.
2. All sets are captured into vLLM's one graph pool, which is right as no two graphs run at once.
3. Graphs go before weights: ``drop`` destroys an expert's graphs, and then its memory may be another's.
4. ``capture`` makes one graph a call, the largest first, for the expert that is shown and active.
5. No request is computed by a set before it is trusted. Until then it is shown to steps for ``on_trial`` of
   the expert alone: to the scheduler an expert of its own, so that no step has requests of both.

CUDA is not verified: tests run this with graphs that stand in for NVIDIA's.
"""

import gc
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from vllm.compilation.cuda_graph import CUDAGraphWrapper
from vllm.compilation.monitor import set_cudagraph_capturing_enabled
from vllm.distributed.parallel_state import graph_capture

Entries = dict[Any, Any]
"""vLLM's ``CUDAGraphEntry`` for each ``BatchDescriptor``."""
Sizes = dict[Any, set[Any]]
"""``BatchDescriptor``s that there are graphs of, for each ``CUDAGraphMode``."""


TRIAL = " on trial"


def on_trial(name: str) -> str:
    """Names the expert to which the graphs of ``name`` are shown before they are trusted."""
    return name + TRIAL


class Wrapper(Protocol):
    """vLLM's ``CUDAGraphWrapper``: replays what it has an entry for."""

    concrete_cudagraph_entries: Entries


class Dispatcher(Protocol):
    """vLLM's ``CudagraphDispatcher``: says which batches are computed by a graph."""

    cudagraph_keys: Sizes

    def get_capture_descs(self) -> list[tuple[Any, list[Any]]]:
        """Lists all keys, the largest first in each mode."""
        ...


@dataclass(slots=True)
class _Set:
    """The graphs of one expert. ``entries``: those of each wrapper. ``given_up``: it gets no more.
    ``trusted``: requests may be computed by them; ``tried``: those that try them may."""

    entries: list[Entries]
    sizes: Sizes
    bytes: int = 0
    given_up: bool = False
    trusted: bool = False
    tried: bool = False

    def has(self, mode: Any, size: Any) -> bool:
        return size in self.sizes[mode]


class GraphSets:
    """The graphs of an engine's experts."""

    def __init__(
        self,
        first: str,
        wrappers: Iterable[Wrapper],
        dispatcher: Dispatcher,
        capture: Callable[[Any, Any], None],
        *,
        set_bytes: int = 0,
        free: Callable[[], int] = lambda: 0,
    ) -> None:
        """``first``: the expert whose graphs vLLM has captured, ``set_bytes``: what they took. ``capture``:
        has vLLM capture one size of one mode. ``free``: the device's free bytes."""
        self._wrappers = list(wrappers)
        self._dispatcher = dispatcher
        self._capture = capture
        self._free = free
        self._wanted = [(mode, size) for mode, sizes in dispatcher.get_capture_descs() for size in sizes]
        seen = [wrapper.concrete_cudagraph_entries for wrapper in self._wrappers]
        self._sets = {first: _Set(seen, dispatcher.cudagraph_keys, set_bytes, trusted=True)}
        self._shown: str | None = first
        self._set_bytes = set_bytes

    @property
    def set_bytes(self) -> int:
        """The most that a whole set has taken of the device, in bytes."""
        return self._set_bytes

    def missing(self, name: str) -> int:
        """Counts the graphs that ``name`` lacks and may get."""
        graphs = self._sets.get(name)
        if graphs is None:
            return len(self._wanted)
        return 0 if graphs.given_up else sum(not graphs.has(*each) for each in self._wanted)

    def needs(self, name: str) -> int:
        """Returns the bytes that what ``name`` lacks takes, by what a set has taken."""
        return -(-self._set_bytes * self.missing(name) // max(1, len(self._wanted)))

    @property
    def tried(self) -> tuple[str, ...]:
        """Names for the requests that try graphs now, as ``on_trial`` does."""
        return tuple(on_trial(name) for name, graphs in self._sets.items() if graphs.tried)

    def show(self, name: str) -> None:
        """Has vLLM use the graphs of the expert, or none where it has none that are trusted; of one that is
        ``on_trial`` those that are not, too."""
        graphs = self._sets.get(name.removesuffix(TRIAL))
        seen = graphs is not None and (graphs.trusted or name.endswith(TRIAL))
        self._show(graphs if graphs is not None and seen else self._empty())
        self._shown = name.removesuffix(TRIAL)

    def try_out(self, name: str) -> None:
        """Lets requests for ``name`` that are ``on_trial`` use its graphs."""
        if (graphs := self._sets.get(name)) is not None:
            graphs.tried = not graphs.trusted

    def trust(self, name: str) -> None:
        """Lets all requests for ``name`` use its graphs from the next time that they are shown."""
        if (graphs := self._sets.get(name)) is not None:
            graphs.trusted, graphs.tried = True, False

    def capture(self) -> None:
        """Captures the next graph of the expert that is shown, if it lacks one; ``show`` comes again after
        it. Where that fails the expert keeps the graphs it has and gets no more, and what was raised is
        raised."""
        assert self._shown is not None, "show comes first"
        if not self.missing(self._shown):
            return
        graphs = self._sets.setdefault(self._shown, self._empty())
        graphs.trusted = graphs.tried = False
        self._show(graphs)
        mode, size = next(each for each in self._wanted if not graphs.has(*each))
        before = self._free()
        graphs.sizes[mode].add(size)  # else the dispatcher would not have it captured
        try:
            self._capture(mode, size)
        except BaseException:
            graphs.given_up = True
            graphs.sizes[mode].discard(size)
            for entries in graphs.entries:
                _destroy(entries.pop(size, None))
            raise
        graphs.bytes += max(0, before - self._free())
        self._set_bytes = max(self._set_bytes, graphs.bytes)

    def drop(self, name: str) -> None:
        """Destroys the graphs of ``name``, whose weights may go next."""
        if name == self._shown:
            self._show(self._empty())
            self._shown = None
        graphs = self._sets.pop(name, None)
        for entries in graphs.entries if graphs is not None else ():
            for entry in entries.values():
                _destroy(entry)
            entries.clear()

    def _show(self, graphs: _Set) -> None:
        for wrapper, entries in zip(self._wrappers, graphs.entries, strict=True):
            wrapper.concrete_cudagraph_entries = entries
        self._dispatcher.cudagraph_keys = graphs.sizes

    def _empty(self) -> _Set:
        return _Set([{} for _ in self._wrappers], {mode: set() for mode in self._dispatcher.cudagraph_keys})

    def __repr__(self) -> str:
        counts = ", ".join(
            f"{name}: {sum(map(len, each.sizes.values()))}" for name, each in self._sets.items()
        )
        return f"<GraphSets [shown: {self._shown}, of {len(self._wanted)} each: {counts}]>"


def graph_sets(first: str, runner: Any, set_bytes: int, free: Callable[[], int]) -> GraphSets:
    """Takes over the graphs that vLLM's ``runner`` (V1) has captured for ``first``."""
    wrappers = sorted(CUDAGraphWrapper._all_instances, key=id)
    return GraphSets(
        first,
        wrappers,
        runner.cudagraph_dispatcher,
        partial(_capture, runner),
        set_bytes=set_bytes,
        free=free,
    )


def _capture(runner: Any, mode: Any, size: Any) -> None:
    """Has vLLM capture one graph, as ``GPUModelRunner.capture_model`` does for all. Its dummy batch writes no
    KV (slots of -1), and what it leaves in the runner's buffers each step writes anew: both were read. No
    garbage is collected meanwhile, as that could spoil the graph; vLLM's own guard would also undo what it
    froze at the start."""
    collecting = gc.isenabled()
    gc.disable()
    set_cudagraph_capturing_enabled(True)
    try:
        with graph_capture(device=runner.device):
            runner._capture_cudagraphs(batch_descriptors=[size], cudagraph_runtime_mode=mode)
    finally:
        set_cudagraph_capturing_enabled(False)
        if collecting:
            gc.enable()


def _destroy(entry: Any) -> None:
    if entry is not None and entry.cudagraph is not None:
        entry.cudagraph.reset()
