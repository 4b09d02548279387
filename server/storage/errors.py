"""Everything that can go wrong with an SQLite file of ours.

DatabaseError           root; the message is one line that says what to do
├── DatabaseUnreadable  the file is not there, is something else, or was written by another version
├── DatabaseUnwritable  the disk is full, or the file may not be written
├── DatabaseBusy        another process holds the file for longer than a call waits
├── NotKept             what was asked for is not in the file
└── NameTaken           what was to be made is in the file already
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class DatabaseError(Exception):
    pass


class DatabaseUnreadable(DatabaseError):
    pass


class DatabaseUnwritable(DatabaseError):
    pass


class DatabaseBusy(DatabaseError):
    pass


class NotKept(DatabaseError):
    pass


class NameTaken(DatabaseError):
    pass


@contextmanager
def translated(file: Path) -> Iterator[None]:
    """Raises SQLite's errors about ``file`` as ours."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise DatabaseBusy(f"{file} is held by another process; try again") from error
        raise DatabaseUnwritable(f"{file} cannot be used: {error}") from error
    except sqlite3.DatabaseError as error:
        raise DatabaseUnreadable(f"{file} is damaged or no SQLite file: {error}") from error
