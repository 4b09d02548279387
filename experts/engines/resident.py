"""A resident expert: known by the files that its weights were read from."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class Resident:
    """The weights of an expert in an engine."""

    stamp: str
    """Changes when the files do."""

    @classmethod
    def of(cls, weights: Path) -> Self:
        """Stamps the files of a folder as they are now."""
        files = [(file.name, file.stat()) for file in sorted(weights.glob("*.safetensors"))]
        return cls(repr([(name, stat.st_size, stat.st_mtime_ns) for name, stat in files]))

    def salt(self, expert: str, own: str) -> str:
        """Returns the ``cache_salt`` that keeps prefixes computed with other weights out of reach, also those
        of an expert's earlier weights.

        ``own``: the salt that the client sent. vLLM takes at most 128 characters, and not all: a digest."""
        return _digest(expert, self.stamp, own)


@lru_cache(maxsize=1024)
def _digest(*parts: str) -> str:
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()
