"""Opens SQLite files of ours, with their rights and version, and runs one transaction at a time."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from server.storage.copies import KEPT_S, forget_copies
from server.storage.errors import DatabaseUnreadable, DatabaseUnwritable, translated
from server.storage.migrations import IN_MEMORY, checked_version, migrate
from server.storage.schema import Schema

_PATIENCE_S = 10.0
"""How long another process may hold the file, for instance while it forgets all."""


class Database:
    """Runs statements for one thread at a time. What it raises while it is used is DatabaseUnwritable or
    DatabaseBusy, and then nothing of that transaction has been kept."""

    def __init__(self, file: Path, connection: sqlite3.Connection) -> None:
        self.file = file
        self._connection = connection

    @classmethod
    def open(cls, file: Path, schema: Schema, *, create: bool) -> Self:
        """Brings an older file to the schema's newest version; see ``server.storage.migrations``. Raises
        DatabaseUnreadable, DatabaseUnwritable, DatabaseBusy."""
        try:
            if create:
                file.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | (os.O_CREAT if create else 0)
            os.close(os.open(file, flags, 0o600))  # nobody else's; SQLite's other files follow its rights
        except FileNotFoundError as error:
            raise DatabaseUnreadable(f"{file} does not exist: nothing has been kept there") from error
        except OSError as error:
            raise DatabaseUnwritable(
                f"{file} cannot be written: {error.strerror}; name another as {schema.setting}"
            ) from error
        with translated(file):
            connection = sqlite3.connect(
                file, timeout=_PATIENCE_S, isolation_level=None, check_same_thread=False
            )
            try:
                _prepare(connection, file, schema)
                made = cls(file, connection)
                made.forget_copies(KEPT_S)
                return made
            except BaseException:
                connection.close()
                raise

    @classmethod
    def in_memory(cls, schema: Schema) -> Self:
        """Makes one that no other connection sees and that ends with ``close``."""
        connection = sqlite3.connect(IN_MEMORY, isolation_level=None, check_same_thread=False)
        _prepare(connection, IN_MEMORY, schema)
        return cls(IN_MEMORY, connection)

    def __repr__(self) -> str:
        return f"<Database {self.file}>"

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commits all that is changed within, or nothing where it raises."""
        with translated(self.file):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def change(self, statement: str, *values: object) -> int:
        """Runs a statement inside a transaction; returns how many rows it changed."""
        return self._connection.execute(statement, values).rowcount

    def rows(self, statement: str, *values: object) -> Iterator[tuple[Any, ...]]:
        with translated(self.file):
            yield from self._connection.execute(statement, values)

    def number(self, pragma: str) -> int:
        ((value,),) = self.rows(f"PRAGMA {pragma}")
        return int(value)

    def forget_copies(self, older_than_s: float = 0.0) -> None:
        """Deletes the copies of earlier versions that are at least so old. Raises DatabaseUnwritable."""
        if self.file == IN_MEMORY:
            return
        try:
            forget_copies(self.file, older_than_s)
        except OSError as error:
            raise DatabaseUnwritable(f"a copy of {self.file} cannot be deleted: {error.strerror}") from error

    def rewritten(self) -> bool:
        """Puts all of the log into the file and deletes copies of earlier versions, so that deleted rows are
        in none of them. False: another process reads the log still."""
        self.forget_copies()
        with translated(self.file):
            ((busy, _, _),) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return not busy


def _prepare(connection: sqlite3.Connection, file: Path, schema: Schema) -> None:
    """Sets the connection up, and brings the file to the newest version. Raises DatabaseUnreadable,
    DatabaseUnwritable, sqlite3.Error."""
    checked_version(connection, file, schema)  # before a file that is none of ours is changed
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("PRAGMA synchronous = NORMAL")  # a power cut may cost the last seconds, never the file
    connection.execute("PRAGMA journal_mode = WAL")
    migrate(connection, file, schema)
