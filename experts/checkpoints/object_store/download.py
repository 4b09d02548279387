"""Downloads files of a store piece by piece, goes on where a download stopped, and checks what came."""

import os
import re
from collections.abc import Callable, Mapping
from hashlib import sha256 as hashed
from pathlib import Path

from experts.checkpoints.hashing import sha256
from experts.checkpoints.object_store.folder import ObjectFolder, StoredFile
from experts.errors import CheckpointMismatch
from experts.progress import Progress

PIECE_BYTES, PIECES = 8 * 2**20, 8
"""Bytes asked for at a time, and how many such pieces at the same time: both times are in memory."""
SUMS = "SHA256SUMS"
"""A file beside a checkpoint's, as ``sha256sum *`` writes it: what comes has to be as it says."""
_SUM = re.compile(r"([0-9a-f]{64}) [ *](?:\./)?(.+)")


def part_of(folder: Path, name: str, file: StoredFile) -> Path:
    """Returns where ``folder`` keeps what has come of a file of this very version."""
    version = hashed(f"{file.bytes} {file.version}".encode()).hexdigest()[:12]
    return folder / f"{name}.{version}.part"


def missing_bytes(folder: Path, files: Mapping[str, StoredFile]) -> int:
    """Counts what is still to come."""
    parts = {name: part_of(folder, name, file) for name, file in files.items()}
    return sum(file.bytes - _size(parts[name]) for name, file in files.items())


def download(
    store: ObjectFolder,
    files: Mapping[str, StoredFile],
    sums: str | None,
    folder: Path,
    progress: Progress,
    piece_bytes: int = PIECE_BYTES,
) -> None:
    """Fetches what ``folder`` lacks of ``files`` and checks all of them. ``sums``: the text of SHA256SUMS.

    Raises CheckpointMissing, CheckpointUnreadable, OSError where the disk fails, and CheckpointMismatch for a
    file that is not as SHA256SUMS says, or that changed meanwhile: that one is fetched anew the next time.
    """
    wanted = {part_of(folder, name, file) for name, file in files.items()}
    for stale in [each for each in folder.rglob("*") if each.is_file() and each not in wanted]:
        stale.unlink()
    total = sum(file.bytes for file in files.values())
    done = total - missing_bytes(folder, files)

    def advance(read: int) -> None:
        nonlocal done
        done += read
        progress("download", done, total)

    expected = None if sums is None else _expected(store, sums, files)
    for name, file in files.items():
        part = part_of(folder, name, file)
        part.parent.mkdir(parents=True, exist_ok=True)
        _fetch(store, name, file, part, piece_bytes, advance)
        if store.describe(name) != file:
            part.unlink()
            raise CheckpointMismatch(f"{store.url}/{name}: it changed while it was read; prepare it again")
        if expected is not None and (found := sha256(part)) != expected[name]:
            part.unlink()
            raise CheckpointMismatch(
                f"{store.url}/{name}: sha256 is {found}, not {expected[name]} as {SUMS} says; upload it again"
            )


def _fetch(
    store: ObjectFolder,
    name: str,
    file: StoredFile,
    part: Path,
    piece_bytes: int,
    advance: Callable[[int], None],
) -> None:
    with part.open("ab") as output:
        while (at := output.tell()) < file.bytes:
            starts = range(at, min(at + PIECES * piece_bytes, file.bytes), piece_bytes)
            spans = [(start, min(start + piece_bytes, file.bytes)) for start in starts]
            for piece in store.read(name, spans):
                output.write(piece)
                advance(len(piece))
            output.flush()
            os.fdatasync(output.fileno())  # after a power failure a part is no longer than what is in it


def _expected(store: ObjectFolder, sums: str, files: Mapping[str, StoredFile]) -> dict[str, str]:
    said = {match[2]: match[1] for line in sums.splitlines() if (match := _SUM.fullmatch(line))}
    for name in files:
        if name not in said:
            raise CheckpointMismatch(
                f"{store.url}/{SUMS} does not list {name}; write it anew: sha256sum * */* > {SUMS}"
            )
    return {name: said[name] for name in files}


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
