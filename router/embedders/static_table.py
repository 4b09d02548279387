"""A vector for each token, in four bits a number: what a static embedder is made of, and its file."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from router.errors import EmbedderError


@dataclass(frozen=True, slots=True)
class StaticTable:
    """The vector of token ``tokens[i]`` is ``codes[i] * scales[i]``. A token without a row has none."""

    tokens: NDArray[np.uint16]
    """[rows]"""
    codes: NDArray[np.int8]
    """[rows, dimension], -7 to 7. The dimension is even."""
    scales: NDArray[np.float16]
    """[rows]"""
    sha256: str
    """Hash of the file."""

    @classmethod
    def read(cls, file: Path) -> "StaticTable":
        """Takes two numbers out of each byte, the even column from its low half. Raises EmbedderError when
        the file is missing or holds something else."""
        try:
            content = file.read_bytes()
            arrays = load(content)
            packed = arrays["codes"]
            codes = np.empty((packed.shape[0], 2 * packed.shape[1]), dtype=np.int8)
            codes[:, 0::2], codes[:, 1::2] = packed & 15, packed >> 4
            digest = hashlib.sha256(content).hexdigest()
            return cls(arrays["tokens"], codes - np.int8(8), arrays["scales"], digest)
        except (OSError, SafetensorError, KeyError) as error:
            raise EmbedderError(f"{file} is not a table of token vectors: {error}") from error

    def __repr__(self) -> str:
        return f"<StaticTable {len(self.tokens)} tokens, {self.codes.shape[1]} dimensions>"
