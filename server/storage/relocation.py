"""Moves the gateway's files to another place, once no process uses them."""

import contextlib
import fcntl
import os
import shutil
import sqlite3
from pathlib import Path

from server.storage.copies import copies_of, copy_of
from server.storage.errors import DatabaseBusy, translated

_MAGIC = b"SQLite format 3\0"
_APPLICATION_ID = slice(68, 72)
_OURS = b"CoE"
"""Prefix of the application ids of the gateway's files."""


def is_ours(file: Path) -> bool:
    """Says whether it is an SQLite file of this program, of any kind and version."""
    try:
        with file.open("rb") as opened:
            head = opened.read(_APPLICATION_ID.stop)
    except OSError:
        return False
    return head.startswith(_MAGIC) and head[_APPLICATION_ID].startswith(_OURS)


def check_unused(file: Path) -> None:
    """Writes all of the log into the database, so that it is one file, and leaves it so. Raises DatabaseBusy
    where another process has it open."""
    with translated(file), contextlib.closing(sqlite3.connect(file, timeout=0)) as connection:
        ((mode,),) = connection.execute("PRAGMA journal_mode = DELETE")
    if mode != "delete":
        raise DatabaseBusy(f"{file} is held by another process; end that first")


def check_unlocked(lock: Path) -> None:
    """Raises DatabaseBusy where another process holds the lock."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise DatabaseBusy(f"{lock.parent} is held by another process; end that first") from error
    finally:
        os.close(descriptor)


def move(old: Path, new: Path) -> None:
    """Moves a file or folder to a place where nothing is, also on another file system, with the copies of a
    database. Raises OSError."""
    new.parent.mkdir(parents=True, exist_ok=True)
    copies = [*copies_of(old)] if old.is_file() else []
    shutil.move(old, new)
    for copy in copies:
        version = int(copy.stem.rpartition(".v")[2])
        shutil.move(copy, copy_of(new, version))
