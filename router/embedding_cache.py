"""Vectors kept on disk by content, so that a second training run embeds only what is new."""

import hashlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from router.embed import Embedder, Vectors


class EmbeddingCache:
    """An Embedder over another one that embeds each distinct text once.

    ``file`` is an SQLite database, or absent to remember for this object's life. One thread only: it is for
    training.
    """

    def __init__(self, embedder: Embedder, file: Path | None = None) -> None:
        self._embedder = embedder
        self._database = sqlite3.connect(":memory:" if file is None else file)
        self._database.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB)")

    @property
    def name(self) -> str:
        return self._embedder.name

    @property
    def sha256(self) -> str:
        return self._embedder.sha256

    @property
    def dimension(self) -> int:
        return self._embedder.dimension

    def embed(self, texts: Sequence[str]) -> Vectors:
        rows = np.empty((len(texts), self.dimension), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            row[:] = self._one(text)
        self._database.commit()
        return rows

    def _one(self, text: str) -> Vectors:
        key = hashlib.sha256(f"{self.sha256} {text}".encode()).digest()
        found = self._database.execute("SELECT vector FROM vectors WHERE key = ?", (key,)).fetchone()
        if found is not None:
            return np.frombuffer(found[0], dtype=np.float32)
        vector: Vectors = self._embedder.embed([text])[0]
        self._database.execute("INSERT INTO vectors VALUES (?, ?)", (key, vector.tobytes()))
        return vector

    def close(self) -> None:
        self._database.close()

    def __repr__(self) -> str:
        count = self._database.execute("SELECT count(*) FROM vectors").fetchone()[0]
        return f"<EmbeddingCache {self.name}: {count} texts>"
