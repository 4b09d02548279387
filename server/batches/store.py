"""SQLite file of the files and batches, and their owners."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Generic, Literal, Self, TypeVar

from pydantic import TypeAdapter

from server.access.shares import fits
from server.batches.records import BatchRecord, FileRecord
from server.errors import (
    BadRequest,
    BatchesUnavailable,
    Conflict,
    SpoolFull,
    TooManyBatches,
    UnknownBatch,
    UnknownFile,
)
from server.storage.database import Database
from server.storage.errors import DatabaseError
from server.storage.schema import Schema

log = logging.getLogger("coe.batches")

SCHEMA = Schema(
    setting="batches.folder",
    application_id=0x436F4542,  # CoEB
    versions=(
        (  # 1
            """CREATE TABLE files (
                number INTEGER PRIMARY KEY AUTOINCREMENT,
                id TEXT NOT NULL UNIQUE,
                owner TEXT NOT NULL,           -- see owner_of
                filename TEXT NOT NULL,
                purpose TEXT NOT NULL,
                bytes INTEGER NOT NULL,
                created_at INTEGER NOT NULL,   -- seconds since 1970
                expires_at INTEGER NOT NULL
            )""",
            """CREATE TABLE batches (
                number INTEGER PRIMARY KEY AUTOINCREMENT,
                id TEXT NOT NULL UNIQUE,
                owner TEXT NOT NULL,
                input_file_id TEXT NOT NULL,
                ended_at INTEGER,              -- NULL until it has ended
                record TEXT NOT NULL           -- a BatchRecord, JSON
            )""",
            "CREATE INDEX files_of ON files (owner, number)",
            "CREATE INDEX batches_of ON batches (owner, number)",
            "CREATE INDEX unfinished ON batches (number) WHERE ended_at IS NULL",
        ),
    ),
)
FILES_OF_A_BATCH = 2
"""Number of files that a batch ends with: answers, and failures."""
_UNFINISHED = "ended_at IS NULL"
_FILE = "id, owner, filename, purpose, bytes, created_at, expires_at"
_BATCH = TypeAdapter(BatchRecord)

Kept = TypeVar("Kept")


@dataclass(frozen=True, slots=True)
class PageQuery:
    """Query of one page of a list. ``after``: the id that the page before it ended with."""

    limit: int
    after: str | None = None
    order: Literal["asc", "desc"] = "desc"
    purpose: str | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[Kept]):
    entries: tuple[Kept, ...]
    has_more: bool


class BatchStore:
    """Store of files and batches, for one thread at a time. Records of another owner count as unknown. Raises
    BatchesUnavailable where the file cannot be used, and then nothing of that call is kept."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, file: Path) -> Self:
        """Opens the file, and creates it where there is none. Raises DatabaseError."""
        return cls(Database.open(file, SCHEMA, create=True))

    def close(self) -> None:
        self._database.close()

    def __repr__(self) -> str:
        return f"<BatchStore {self._database!r}>"

    def add_file(self, record: FileRecord, most_files: int) -> None:
        """Adds a file. Raises SpoolFull."""
        with self._transaction():
            self._check_files(record.owner, 1, most_files)
            self._insert_file(record)

    def file(self, owner: str, id: str) -> FileRecord:
        """Returns a file. Raises UnknownFile."""
        with self._transaction():
            return self._file_of(owner, id)

    def files(self, owner: str, asked: PageQuery) -> Page[FileRecord]:
        """Lists the owner's files. Raises BadRequest where ``after`` is none of them."""
        condition, values = ("AND purpose = ?", [asked.purpose]) if asked.purpose else ("", [])
        with self._transaction():
            rows = self._page("files", _FILE, owner, asked, condition, values)
        return Page(tuple(FileRecord(*row) for row in rows[: asked.limit]), len(rows) > asked.limit)

    def delete_file(self, owner: str, id: str) -> None:
        """Deletes a file. Raises UnknownFile, and Conflict while a batch reads it."""
        with self._transaction():
            self._file_of(owner, id)
            reader = self._one("SELECT id FROM batches WHERE input_file_id = ? AND ended_at IS NULL", id)
            if reader is not None:
                raise Conflict(f"File {id} is being read by {reader[0]}: cancel it first.", "file_id")
            self._database.change("DELETE FROM files WHERE id = ?", id)

    def forget(self, now: float, ended_before: float) -> list[str]:
        """Deletes the expired files that no batch reads, and the batches that ended before ``ended_before``;
        returns the ids of these files."""
        with self._transaction():
            self._database.change("DELETE FROM batches WHERE ended_at < ?", ended_before)
            gone = self._database.rows(
                "DELETE FROM files WHERE expires_at <= ? AND id NOT IN "
                "(SELECT input_file_id FROM batches WHERE ended_at IS NULL) RETURNING id",
                now,
            )
            return [id for (id,) in gone]

    def add_batch(self, record: BatchRecord, most_unfinished: int, most_files: int) -> None:
        """Adds a batch. Raises UnknownFile, TooManyBatches, SpoolFull."""
        with self._transaction():
            self._file_of(record.owner, record.input_file_id)
            owner, (held, used) = record.owner, self._counted("batches", _UNFINISHED, record.owner)
            if not fits(owner, 1, held=held, used=used, most=most_unfinished):
                raise TooManyBatches(
                    f"{held} of your batches are unfinished, and {used} of all: {most_unfinished} may be, "
                    "some of them of other keys. Wait for one to end, or cancel one."
                )
            self._check_files(owner, FILES_OF_A_BATCH, most_files)
            self._database.change(
                "INSERT INTO batches (id, owner, input_file_id, record) VALUES (?, ?, ?, ?)",
                record.id,
                record.owner,
                record.input_file_id,
                _BATCH.dump_json(record).decode(),
            )

    def batch(self, owner: str, id: str) -> BatchRecord:
        """Returns a batch. Raises UnknownBatch."""
        with self._transaction():
            return self._batch_of(owner, id)

    def batches(self, owner: str, asked: PageQuery) -> Page[BatchRecord]:
        """Lists the owner's batches. Raises BadRequest where ``after`` is none of them."""
        with self._transaction():
            rows = self._page("batches", "record", owner, asked)
        records = tuple(_BATCH.validate_json(text) for (text,) in rows[: asked.limit])
        return Page(records, len(rows) > asked.limit)

    def unfinished(self) -> list[BatchRecord]:
        """Returns the unfinished batches, the oldest first."""
        with self._transaction():
            rows = [*self._database.rows("SELECT record FROM batches WHERE ended_at IS NULL ORDER BY number")]
        return [_BATCH.validate_json(text) for (text,) in rows]

    def change(
        self,
        owner: str,
        id: str,
        changed: Callable[[BatchRecord], BatchRecord],
        new_files: Sequence[FileRecord] = (),
    ) -> BatchRecord:
        """Changes a batch, adds ``new_files``, and returns the batch as it is then. Raises UnknownBatch, and
        what ``changed`` does."""
        with self._transaction():
            record = changed(self._batch_of(owner, id))
            self._database.change(
                "UPDATE batches SET record = ?, ended_at = ? WHERE id = ?",
                _BATCH.dump_json(record).decode(),
                record.ended_at,
                id,
            )
            for file in new_files:
                self._insert_file(file)
            return record

    def contents(self) -> dict[str, str]:
        """Returns the owners of all files that have or may get contents, by the file's id."""
        with self._transaction():
            owners = dict(self._database.rows("SELECT id, owner FROM files"))
        for batch in self.unfinished():
            owners |= dict.fromkeys((batch.answers_id, batch.failures_id), batch.owner)
        return owners

    def _check_files(self, owner: str, more: int, most: int) -> None:
        """Checks that ``more`` files still fit. A batch's output files count from its beginning. Raises
        SpoolFull."""
        held, used = self._counted("files", "TRUE", owner)
        own_batches, batches = self._counted("batches", _UNFINISHED, owner)
        held, used = held + FILES_OF_A_BATCH * own_batches, used + FILES_OF_A_BATCH * batches
        if not fits(owner, more, held=held, used=used, most=most):
            raise SpoolFull(
                f"You have {held:,} files, and all keys {used:,} of {most:,}, some of which are left for "
                f"other keys: {more} more do not fit. Delete files that you do not need any more."
            )

    def _counted(self, table: str, condition: str, owner: str) -> tuple[int, int]:
        """Counts the owner's rows, and all rows."""
        ((held, used),) = self._database.rows(
            f"SELECT total(owner = ?), count(*) FROM {table} WHERE {condition}", owner
        )
        return int(held), used

    def _file_of(self, owner: str, id: str) -> FileRecord:
        row = self._one(f"SELECT {_FILE} FROM files WHERE id = ? AND owner = ?", id, owner)
        if row is None:
            raise UnknownFile(f"No such file: {id[:100]!r}; GET /v1/files lists yours.", "file_id")
        return FileRecord(*row)

    def _batch_of(self, owner: str, id: str) -> BatchRecord:
        row = self._one("SELECT record FROM batches WHERE id = ? AND owner = ?", id, owner)
        if row is None:
            raise UnknownBatch(f"No such batch: {id[:100]!r}; GET /v1/batches lists yours.", "batch_id")
        return _BATCH.validate_json(row[0])

    def _insert_file(self, record: FileRecord) -> None:
        self._database.change(f"INSERT INTO files ({_FILE}) VALUES (?, ?, ?, ?, ?, ?, ?)", *astuple(record))

    def _page(
        self,
        table: str,
        columns: str,
        owner: str,
        asked: PageQuery,
        condition: str = "",
        values: Sequence[str] = (),
    ) -> list[tuple[Any, ...]]:
        """Returns the page's rows, and one more where there is one."""
        place, beyond = [], ""
        if asked.after is not None:
            last = self._one(f"SELECT number FROM {table} WHERE id = ? AND owner = ?", asked.after, owner)
            if last is None:
                raise BadRequest(f"'after' is none of the list: {asked.after[:100]!r}.", "after")
            beyond, place = f"AND number {'>' if asked.order == 'asc' else '<'} ?", [last[0]]
        statement = (
            f"SELECT {columns} FROM {table} WHERE owner = ? {condition} {beyond} "
            f"ORDER BY number {asked.order} LIMIT ?"
        )
        return [*self._database.rows(statement, owner, *values, *place, asked.limit + 1)]

    def _one(self, statement: str, *values: object) -> tuple[Any, ...] | None:
        return next(self._database.rows(statement, *values), None)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            with self._database.transaction():
                yield
        except DatabaseError as error:
            log.error("files and batches: %s", error)
            raise BatchesUnavailable(
                "Files and batches cannot be used now; the gateway's log says why. Try again later."
            ) from error
