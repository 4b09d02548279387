"""MiniLM's vectors without MiniLM: each token has one, and a text is their weighted sum. Microseconds.

``scripts/router/distil.py`` makes the table; router/minilm/README.md says how the shipped one was made.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from router.arrays import Vectors
from router.embedders.model_files import MINILM, TOKENIZER, TOKENIZER_SHA256, verify
from router.embedders.static_table import StaticTable
from router.embedders.wordpiece import WordPieces


class StaticMiniLm:
    """The sum of a text's token vectors, each times the root of its count, made length one.

    The root keeps a word that comes twenty times from drowning the others: with plain counts a point fewer
    benchmark prompts got their category.
    """

    name = "minilm-static-384"
    max_characters = 16384
    """Some 3,500 tokens, of which all are read: with the 256 that MiniLM reads, 0.3 points fewer prompts got
    their category."""
    _table_sha256 = "11a2883bb77e5076e9f92cac5ad13ecc51b1ab5ba675712f7a007d11be2d1688"

    def __init__(self, table: Path | None = None) -> None:
        """``table`` is one that ``scripts.router.distil`` made; without it, the shipped one. Raises
        EmbedderError when a file is missing or is not what it should be."""

        verify(TOKENIZER, TOKENIZER_SHA256)
        if table is None:
            table = MINILM / "static.safetensors"
            verify(table, self._table_sha256)
        self._pieces = WordPieces.read(TOKENIZER)
        read = StaticTable.read(table)
        rows, self.dimension = read.codes.shape
        # The last row is that of all tokens without a vector: it adds nothing.
        self._codes = np.vstack([read.codes, np.zeros((1, self.dimension), dtype=np.int8)])
        self._scales = np.append(read.scales, 0).astype(np.float32)
        self._row = np.full(len(self._pieces.vocabulary), rows)
        self._row[read.tokens] = np.arange(rows)
        self.sha256 = hashlib.sha256(f"{read.sha256} {TOKENIZER_SHA256}".encode()).hexdigest()

    def embed(self, texts: Sequence[str]) -> Vectors:
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            vector[:] = self._embed_one(text)
        return vectors

    def tokens_in(self, text: str) -> int:
        return len(self._pieces.ids(text[: self.max_characters]))

    def _embed_one(self, text: str) -> Vectors:
        counts = Counter(self._pieces.ids(text[: self.max_characters]))
        rows = self._row[np.fromiter(counts.keys(), dtype=np.int64, count=len(counts))]
        weights = np.sqrt(np.fromiter(counts.values(), dtype=np.float32, count=len(counts)))
        total = (weights * self._scales[rows]) @ self._codes[rows].astype(np.float32)
        length = float(np.linalg.norm(total))
        if length == 0:  # no token has a vector: the direction that all texts share
            total[0] = length = 1.0
        return np.asarray(total / length, dtype=np.float32)

    def __repr__(self) -> str:
        return f"<StaticMiniLm {self.dimension} dimensions, {len(self._codes) - 1} tokens>"
