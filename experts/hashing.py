"""sha256 of files too large to read at once."""

import hashlib
from collections.abc import Callable
from pathlib import Path

CHUNK = 8 * 2**20


def sha256(path: Path, advance: Callable[[int], None] = lambda read: None) -> str:
    """In hexadecimal; ``advance`` is told the bytes of every chunk."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            advance(len(chunk))
    return digest.hexdigest()
