"""Checksums do not depend on who computes the pieces, and notice what they are for."""

import hashlib
import os
from pathlib import Path

import pytest

from experts.checkpoints.hashing import PIECE_BYTES, checksum, digest, hashes, sha256


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES])
def test_a_file_is_hashed_in_one_read_as_in_pieces(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    read: list[int] = []
    found = hashes(tmp_path / "file", read.append)
    assert found.sha256 == sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()
    pieces = [content[start : start + PIECE_BYTES] for start in range(0, size, PIECE_BYTES)]
    assert found.checksum == checksum(digest(memoryview(piece)) for piece in pieces)
    assert sum(read) == size


def test_pieces_that_changed_places_are_another_file() -> None:
    one, other = digest(b"one"), digest(b"other")
    assert checksum([one, other]) != checksum([other, one])


def test_the_checksum_of_written_manifests_stays_what_it_is() -> None:
    assert checksum([digest(b"experts"), digest(b"")]) == "309247ccf30d6b81"
