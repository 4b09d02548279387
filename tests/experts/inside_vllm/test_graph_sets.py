"""Each expert is computed by its own graphs: vLLM's wrapper and dispatcher, and graphs that stand in for
CUDA's."""

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from experts.inside_vllm.weights.images import Image, PointerImages
from tests.experts.inside_vllm import recorded_graph
from tests.experts.inside_vllm.recorded_graph import GRAPH_BYTES, FreedWeights, RecordedGraph

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # vLLM's imports
    from vllm.compilation.cuda_graph import CUDAGraphWrapper
    from vllm.config import CUDAGraphMode, VllmConfig
    from vllm.forward_context import set_forward_context
    from vllm.v1.cudagraph_dispatcher import CudagraphDispatcher

    from experts.inside_vllm.graph_sets import TRIAL, GraphSets, on_trial

SIZES = (1, 2, 4)
MODE = CUDAGraphMode.FULL_DECODE_ONLY
CONFIG = VllmConfig()


class Runner:
    """Holds what is used of vLLM's: a model in its wrapper, its dispatcher, and a batch in buffers that
    stay."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.config = CONFIG
        compilation = self.config.compilation_config
        compilation.cudagraph_capture_sizes = list(SIZES)
        compilation.max_cudagraph_capture_size = max(SIZES)
        compilation.cudagraph_mode = MODE
        self.inner = torch.nn.Linear(3, 2, bias=False).requires_grad_(False)
        self.model = CUDAGraphWrapper(self.inner, self.config, CUDAGraphMode.FULL)
        self.cudagraph_dispatcher = CudagraphDispatcher(self.config)
        self.cudagraph_dispatcher.initialize_cudagraph_keys(MODE)
        self.batch = torch.zeros(8, 3)

    def capture(self, mode: Any, sizes: list[Any]) -> None:
        for size in sizes:
            self._run(size, mode)

    def decode(self, x: torch.Tensor) -> tuple[torch.Tensor, bool]:
        """Returns what the model makes of ``x``, and whether by a graph."""
        mode, size = self.cudagraph_dispatcher.dispatch(len(x), uniform_decode=True)
        self.batch[: len(x)] = x
        return self._run(size, mode)[: len(x)].clone(), mode != CUDAGraphMode.NONE

    def _run(self, size: Any, mode: Any) -> torch.Tensor:
        with set_forward_context(None, self.config, cudagraph_runtime_mode=mode, batch_descriptor=size):
            result: torch.Tensor = self.model(self.batch[: size.num_tokens])
            return result


class Engine:
    """As the worker: images, and graphs for each."""

    def __init__(self) -> None:
        self.runner = Runner()
        self.images = PointerImages(self.runner.inner, "a")
        self.weights = {"a": self.runner.inner.weight.detach().clone()}
        for mode, sizes in self.runner.cudagraph_dispatcher.get_capture_descs():
            self.runner.capture(mode, sizes)
        self.graphs = GraphSets(
            "a",
            [self.runner.model],
            self.runner.cudagraph_dispatcher,
            lambda mode, size: self.runner.capture(mode, [size]),
            set_bytes=len(SIZES) * GRAPH_BYTES,
            free=recorded_graph.free_bytes,
        )

    def load(self, name: str, value: float, *, capture: bool = True) -> None:
        weight = torch.full((2, 3), value)
        self.weights[name] = weight.clone()
        self.graphs.drop(name)
        self.images.add(name, Image((weight,)))
        active = self.images.active
        while capture and self.graphs.missing(name):
            self.activate(name)
            self.graphs.capture()
            self.activate(active or name)
        self.trust(name)

    def activate(self, name: str) -> None:
        self.images.activate(name.removesuffix(TRIAL))
        self.graphs.show(name)

    def trust(self, name: str) -> None:
        self.graphs.trust(name)
        if self.images.active is not None:
            self.graphs.show(self.images.active)

    def drop(self, name: str) -> None:
        self.graphs.drop(name)
        self.images.drop(name)
        del self.weights[name]

    def computes(self, name: str, size: int = 3) -> bool:
        """Whether by a graph. Checks that it is with the expert's weights."""
        x = torch.rand(size, 3)
        y, by_graph = self.runner.decode(x)
        torch.testing.assert_close(y, x @ self.weights[name].t())
        return by_graph


def check_all() -> None:
    for graph in RecordedGraph.alive:
        graph.check()


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    with monkeypatch.context() as patched:
        recorded_graph.install(patched.setattr)
        RecordedGraph.alive.clear()
        yield Engine()


def test_each_expert_is_computed_by_its_own_graphs(engine: Engine) -> None:
    for name, value in (("b", 2.0), ("c", 3.0)):
        engine.load(name, value)
    assert engine.computes("a")
    for name in "bcabac":
        engine.activate(name)
        assert all(engine.computes(name, size) for size in (1, 2, 3, 4))
        assert not engine.computes(name, 5), "no graph of that size"


def test_graphs_of_one_expert_would_compute_the_same_whoever_is_active(engine: Engine) -> None:
    engine.load("b", 2.0)
    engine.images.activate("b")  # and not its graphs
    with pytest.raises(AssertionError, match="Tensor-likes are not close"):
        engine.computes("b")


def test_an_expert_computes_without_graphs_until_it_has_some(engine: Engine) -> None:
    engine.load("b", 2.0, capture=False)
    engine.activate("b")
    assert engine.graphs.missing("b") == 3
    assert not engine.computes("b", 4)
    engine.graphs.capture()
    assert engine.graphs.missing("b") == 2
    engine.trust("b")
    assert engine.computes("b", 4), "the largest comes first"
    assert not engine.computes("b", 1)
    engine.activate("a")
    assert engine.computes("a", 1)


def test_no_request_is_computed_by_graphs_before_they_are_trusted_but_those_that_try_them(
    engine: Engine,
) -> None:
    engine.load("b", 2.0, capture=False)
    for _ in range(3):
        engine.activate("b")
        engine.graphs.capture()
    engine.activate("b")
    assert not engine.computes("b")
    assert not engine.graphs.tried
    engine.graphs.try_out("b")
    tried = on_trial("b")
    assert list(engine.graphs.tried) == [tried]
    engine.activate(tried)
    assert engine.computes("b")
    engine.activate("b")
    assert not engine.computes("b")
    engine.trust("b")
    assert engine.computes("b")
    assert not engine.graphs.tried
    engine.graphs.drop("b")
    engine.activate(tried)
    assert not engine.computes("b"), "they are gone"


def test_graphs_are_destroyed_before_the_weights_go(engine: Engine) -> None:
    engine.load("b", 2.0)
    engine.activate("b")
    assert len(RecordedGraph.alive) == 6
    engine.graphs.drop("b")
    assert len(RecordedGraph.alive) == 3
    engine.images.drop("b")
    check_all()
    engine.activate("a")
    assert engine.computes("a")


def test_a_graph_whose_weights_went_first_is_found_out(engine: Engine) -> None:
    engine.load("b", 2.0)
    engine.images.drop("b")
    with pytest.raises(FreedWeights):
        check_all()


def test_a_replaced_expert_gets_graphs_of_the_new_weights(engine: Engine) -> None:
    engine.load("b", 2.0)
    engine.activate("b")
    engine.load("b", 5.0)
    assert engine.computes("b")


def test_a_capture_that_fails_leaves_an_expert_with_the_graphs_it_has(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.load("b", 2.0, capture=False)
    engine.activate("b")
    engine.graphs.capture()

    def refused(self: Runner, mode: Any, sizes: list[Any]) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(Runner, "capture", refused)
        with pytest.raises(torch.OutOfMemoryError):
            engine.graphs.capture()
    engine.trust("b")
    assert engine.graphs.missing("b") == 0, "it is not tried again"
    assert engine.computes("b", 3)
    assert not engine.computes("b", 2)
    engine.drop("b")
    engine.load("b", 3.0)
    engine.activate("b")
    assert engine.computes("b", 2), "a new image is another try"


def test_a_set_is_charged_what_the_largest_took(engine: Engine) -> None:
    assert engine.graphs.set_bytes == 3 * GRAPH_BYTES
    assert engine.graphs.needs("b") == 3 * GRAPH_BYTES
    engine.load("b", 2.0, capture=False)
    engine.activate("b")
    engine.graphs.capture()
    assert engine.graphs.needs("b") == 2 * GRAPH_BYTES
    assert engine.graphs.needs("a") == 0


@given(
    st.lists(
        st.tuples(st.sampled_from(["load", "bare", "capture", "drop", "go", "try"]), st.sampled_from("abc")),
        max_size=30,
    )
)
def test_whatever_comes_and_goes_an_expert_is_computed_with_its_weights(
    events: list[tuple[str, str]],
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        recorded_graph.install(patched.setattr)
        RecordedGraph.alive.clear()
        engine = Engine()
        for place, (event, name) in enumerate(events):
            held = name in engine.images.names
            if event in ("load", "bare"):
                engine.load(name, float(place), capture=event == "load")
            elif event == "drop" and held:
                engine.drop(name)
            elif event == "go" and held:
                engine.activate(name)
            elif event == "try" and held:
                engine.graphs.try_out(name)
                engine.activate(on_trial(name))
            elif event == "capture" and held and engine.images.active == name:
                engine.graphs.show(name)
                engine.graphs.capture()
            check_all()
            if (active := engine.images.active) is not None:
                engine.computes(active)
                engine.computes(active, 1)
        for name in engine.images.names:
            engine.drop(name)
        assert RecordedGraph.alive == []
