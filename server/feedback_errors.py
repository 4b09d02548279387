"""Everything that can go wrong with the file of the feedback loop.

FeedbackError           root; the message is one line that says what to do
├── FeedbackUnreadable  the file is not there, is something else, or was written by another version
├── FeedbackUnwritable  the disk is full, or the file may not be written
└── FeedbackBusy        another process holds the file for longer than anybody waits
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class FeedbackError(Exception):
    pass


class FeedbackUnreadable(FeedbackError):
    pass


class FeedbackUnwritable(FeedbackError):
    pass


class FeedbackBusy(FeedbackError):
    pass


@contextmanager
def translated(file: Path) -> Iterator[None]:
    """SQLite's errors about ``file``, as ours."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise FeedbackBusy(f"{file} is held by another process; try again") from error
        raise FeedbackUnwritable(f"{file} cannot be used: {error}") from error
    except sqlite3.DatabaseError as error:
        raise FeedbackUnreadable(f"{file} is damaged or no SQLite file: {error}") from error
