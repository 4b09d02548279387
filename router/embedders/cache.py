"""Vectors kept on disk by content, so that a second training run embeds only what is new."""

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from router.arrays import Vectors
from router.cache_file import NotThisFile, Table
from router.embedders.embedder import Embedder
from router.errors import EmbedderError

_VECTORS = Table(
    application_id=0x436F4556,  # CoEV
    version=1,
    name="vectors",
    columns="key BLOB PRIMARY KEY, vector BLOB",
)


class EmbeddingCache:
    """An Embedder over another one that embeds each distinct text once.

    ``file`` is an SQLite database, or absent to remember for this object's life. One thread only: it is for
    training. A file that cannot be used raises EmbedderError.
    """

    def __init__(self, embedder: Embedder, file: Path | None = None) -> None:
        self._embedder, self._file = embedder, file
        with self._usable():
            self._database = sqlite3.connect(":memory:" if file is None else file)
            try:
                with self._database:
                    self._database.execute("BEGIN IMMEDIATE")
                    _VECTORS.claim(self._database)
            except BaseException:
                self._database.close()
                raise

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
        rows = {text: self._kept(text) for text in texts}
        missing = [text for text, row in rows.items() if row is None]
        if missing:  # in one batch, which an endpoint computes faster than one by one
            made = dict(zip(missing, self._embedder.embed(missing), strict=True))
            kept = [(self._key(text), vector.tobytes()) for text, vector in made.items()]
            with self._usable():
                self._database.executemany("INSERT INTO vectors VALUES (?, ?)", kept)
                self._database.commit()
            rows |= made
        ordered = [rows[text] for text in texts]
        return np.array(ordered, dtype=np.float32).reshape(len(texts), self.dimension)

    def _kept(self, text: str) -> Vectors | None:
        query = "SELECT vector FROM vectors WHERE key = ?"
        found = self._database.execute(query, (self._key(text),)).fetchone()
        return None if found is None else np.frombuffer(found[0], dtype=np.float32)

    def _key(self, text: str) -> bytes:
        return hashlib.sha256(f"{self.sha256} {text}".encode()).digest()

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, NotThisFile) as error:
            raise EmbedderError(f"{self._file} cannot keep embeddings: {error}; name another file") from error

    def close(self) -> None:
        self._database.close()

    def __repr__(self) -> str:
        count = self._database.execute("SELECT count(*) FROM vectors").fetchone()[0]
        return f"<EmbeddingCache {self.name}: {count} texts>"
