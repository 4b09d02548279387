"""An embedder for tests that need vectors and no meaning: it opens at once and reads no file."""

import hashlib
import re
from collections.abc import Sequence
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from router.arrays import Vectors


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
