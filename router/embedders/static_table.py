"""A vector for each token, in four bits a number: what a static embedder is made of, and its file."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from router.errors import EmbedderError

_LARGEST = 7


@dataclass(frozen=True, slots=True)
class StaticTable:
    """The vector of token ``tokens[i]`` is ``codes[i] * scales[i]``. A token without a row has none."""

    tokens: NDArray[np.uint16]
    """[rows]"""
    codes: NDArray[np.int8]
    """[rows, dimension], -7 to 7. The dimension is even."""
    scales: NDArray[np.float16]
    """[rows]"""

    @classmethod
    def rounded(cls, tokens: NDArray[np.int64], vectors: NDArray[np.float32]) -> "StaticTable":
        """Each row with that of six scales which loses least: clipping its largest numbers can spare the
        others more."""
        largest = np.maximum(np.abs(vectors).max(axis=1), 1e-4)
        codes = np.zeros(vectors.shape, dtype=np.int8)
        scales = np.zeros(len(vectors), dtype=np.float16)
        least = np.full(len(vectors), np.inf)
        for share in (1.0, 0.9, 0.8, 0.7, 0.6, 0.5):
            tried = (largest * share / _LARGEST).astype(np.float16)
            step = tried.astype(np.float32)[:, None]
            rounded = np.clip(np.round(vectors / step), -_LARGEST, _LARGEST)
            lost = ((rounded * step - vectors) ** 2).sum(axis=1)
            better = lost < least
            codes[better], scales[better], least[better] = rounded[better], tried[better], lost[better]
        return cls(tokens.astype(np.uint16), codes, scales)

    def _serialised(self) -> bytes:
        """Two numbers share a byte, the even column in its low half."""
        unsigned = (self.codes + 8).astype(np.uint8)
        packed = unsigned[:, 0::2] | (unsigned[:, 1::2] << 4)
        return save({"tokens": self.tokens, "codes": packed, "scales": self.scales})

    @property
    def sha256(self) -> str:
        """Of its file."""
        return hashlib.sha256(self._serialised()).hexdigest()

    def write(self, file: Path) -> None:
        file.write_bytes(self._serialised())

    @classmethod
    def read(cls, file: Path) -> "StaticTable":
        """Raises EmbedderError when the file is missing or holds something else."""
        try:
            arrays = load(file.read_bytes())
            packed = arrays["codes"]
            codes = np.empty((packed.shape[0], 2 * packed.shape[1]), dtype=np.int8)
            codes[:, 0::2], codes[:, 1::2] = packed & 15, packed >> 4
            return cls(arrays["tokens"], codes - np.int8(8), arrays["scales"])
        except (OSError, SafetensorError, KeyError) as error:
            raise EmbedderError(f"{file} is not a table of token vectors: {error}") from error

    def __repr__(self) -> str:
        return f"<StaticTable {len(self.tokens)} tokens, {self.codes.shape[1]} dimensions>"
