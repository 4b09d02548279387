"""Copies databases before they become another version: ``NAME.v1.sqlite`` beside ``NAME.sqlite``."""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

KEPT_S = 30 * 86_400.0
"""Seconds after which a copy is deleted: it holds what has been deleted since."""


def copy_of(file: Path, version: int) -> Path:
    return file.with_name(f"{file.stem}.v{version}{file.suffix}")


def copies_of(file: Path) -> Iterator[Path]:
    """Yields the copies of ``file``, of whatever version."""
    prefix = f"{file.stem}.v"
    for found in file.parent.glob(f"*{file.suffix}"):
        if found.name.startswith(prefix) and found.stem.removeprefix(prefix).isdecimal():
            yield found


def keep_copy(file: Path, version: int) -> Path:
    """Copies the database, whole or not at all, in the place of an earlier copy of that version. The caller
    has begun a transaction, so nothing is written to it meanwhile. No other user may read the copy. Raises
    sqlite3.Error, OSError."""
    copy = copy_of(file, version)
    unfinished = copy.with_name(f".{copy.name}.new")
    unfinished.unlink(missing_ok=True)
    os.close(os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(unfinished)) as target:
            source.backup(target)
            target.execute("PRAGMA journal_mode = DELETE")  # one file, also where it is moved to
        os.replace(unfinished, copy)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    return copy


def forget_copies(file: Path, older_than_s: float = 0.0) -> None:
    """Deletes the copies of ``file`` that are at least so old. Raises OSError."""
    for copy in [*copies_of(file)]:
        if time.time() - copy.stat().st_mtime >= older_than_s:
            copy.unlink(missing_ok=True)
