"""An SQLite file of ours: its rights, its tables, one transaction at a time."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from server.storage.errors import DatabaseUnreadable, DatabaseUnwritable, translated

_PATIENCE_S = 10.0
"""How long another process may hold the file, for instance while it forgets all."""


@dataclass(frozen=True, slots=True)
class Schema:
    """What makes a file ours. ``setting`` names it in the configuration. ``tables``: SQL statements."""

    setting: str
    application_id: int
    version: int
    tables: tuple[str, ...]


class Database:
    """For one thread at a time. What it raises while it is used is DatabaseUnwritable or DatabaseBusy, and
    then nothing of that transaction has been kept."""

    def __init__(self, file: Path, connection: sqlite3.Connection) -> None:
        self.file = file
        self._connection = connection

    @classmethod
    def open(cls, file: Path, schema: Schema, *, create: bool) -> Self:
        """Raises DatabaseUnreadable, DatabaseUnwritable, DatabaseBusy."""
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
                return cls(file, connection)
            except BaseException:
                connection.close()
                raise

    @classmethod
    def in_memory(cls, schema: Schema) -> Self:
        """One that nobody else sees and that ends with ``close``."""
        nowhere = Path(":memory:")
        connection = sqlite3.connect(nowhere, isolation_level=None, check_same_thread=False)
        _prepare(connection, nowhere, schema)
        return cls(nowhere, connection)

    def __repr__(self) -> str:
        return f"<Database {self.file}>"

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing."""
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
        """How many rows it changed. Inside a transaction."""
        return self._connection.execute(statement, values).rowcount

    def rows(self, statement: str, *values: object) -> Iterator[tuple[Any, ...]]:
        with translated(self.file):
            yield from self._connection.execute(statement, values)

    def number(self, pragma: str) -> int:
        ((value,),) = self.rows(f"PRAGMA {pragma}")
        return int(value)

    def rewritten(self) -> bool:
        """Puts all of the log into the file, so that what was deleted is in neither. False: another process
        reads it still."""
        with translated(self.file):
            ((busy, _, _),) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return not busy


def _prepare(connection: sqlite3.Connection, file: Path, schema: Schema) -> None:
    """Makes the tables of a new file. Raises DatabaseUnreadable."""
    _check(connection, file, schema)
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("PRAGMA synchronous = NORMAL")  # a power cut may cost the last seconds, never the file
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    if not _tables(connection):
        for statement in schema.tables:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {schema.application_id}")
        connection.execute(f"PRAGMA user_version = {schema.version}")
    connection.execute("COMMIT")


def _check(connection: sqlite3.Connection, file: Path, schema: Schema) -> None:
    if not _tables(connection):
        return
    ((application,),) = connection.execute("PRAGMA application_id")
    ((version,),) = connection.execute("PRAGMA user_version")
    if application != schema.application_id:
        raise DatabaseUnreadable(f"{file} holds something else; name another as {schema.setting}")
    if version != schema.version:
        raise DatabaseUnreadable(
            f"{file} has version {version}, and this program reads {schema.version}; export it with the "
            f"program that wrote it, or name another file as {schema.setting}"
        )


def _tables(connection: sqlite3.Connection) -> int:
    ((count,),) = connection.execute("SELECT count(*) FROM sqlite_schema")
    return int(count)
