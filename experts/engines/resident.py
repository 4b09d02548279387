"""An expert as an engine holds it: known by the files its weights were read from."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class Resident:
    stamp: str
    """Changes when the files its weights were read from do."""

    @classmethod
    def of(cls, weights: Path) -> Self:
        files = [(file.name, file.stat()) for file in sorted(weights.glob("*.safetensors"))]
        return cls(repr([(name, stat.st_size, stat.st_mtime_ns) for name, stat in files]))

    def salt(self, expert: str, own: str) -> str:
        """Keeps prefixes computed with other weights out of reach, also those of an expert's earlier weights.

        ``own``: the salt the client sent. vLLM takes at most 128 characters, not all of them: a digest."""
        return _digest(expert, self.stamp, own)


@lru_cache(maxsize=1024)
def _digest(*parts: str) -> str:
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()
