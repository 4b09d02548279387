"""The SQLite file of the feedback loop: decisions, what clients said of them, and forgetting them.

Deleted rows are overwritten (``secure_delete``). Nothing in here knows of HTTP.
"""

import hmac
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from server.feedback_errors import FeedbackBusy, FeedbackUnreadable, FeedbackUnwritable, translated
from server.feedback_records import Decided, Ended, Kept, Said
from server.feedback_schema import prepare

_PATIENCE_S = 10.0
"""How long another process may hold the file, for instance while it forgets all."""
_INSERT = """INSERT OR REPLACE INTO decisions (client, id, at, composition, category, cluster, confidence,
    uncertain, expert, prompt, digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_OF = "WHERE client = ? AND id = ?"


class FeedbackStore:
    """For one thread at a time. What it raises while it is used is FeedbackUnwritable or FeedbackBusy, and
    then nothing of that call has been kept."""

    def __init__(self, file: Path, database: sqlite3.Connection) -> None:
        self.file = file
        self._database = database
        ((self._salt,),) = database.execute("SELECT value FROM salt")

    @classmethod
    def open(cls, file: Path, *, create: bool) -> Self:
        """Raises FeedbackUnreadable, FeedbackUnwritable."""
        try:
            if create:
                file.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | (os.O_CREAT if create else 0)
            os.close(os.open(file, flags, 0o600))  # people's prompts; SQLite's other files follow its rights
        except FileNotFoundError as error:
            raise FeedbackUnreadable(f"{file} does not exist: nothing has been kept there") from error
        except OSError as error:
            raise FeedbackUnwritable(f"{file} cannot be written: {error.strerror}") from error
        with translated(file):
            database = sqlite3.connect(
                file, timeout=_PATIENCE_S, isolation_level=None, check_same_thread=False
            )
            try:
                prepare(database, file)
                return cls(file, database)
            except BaseException:
                database.close()
                raise

    def close(self) -> None:
        self._database.close()

    def client_of(self, key: bytes) -> bytes:
        """The hash of an API key."""
        return self._hash(b"key", key)

    def digest_of(self, prompt: str) -> bytes:
        return self._hash(b"prompt", prompt.encode("utf-8", "replace"))

    def write(self, items: Sequence[Decided | Ended | Said], *, text: bool) -> list[bool]:
        """All of it or nothing; for each whether it was known. A request's later decision replaces an earlier
        one, and later feedback earlier feedback. ``text``: whether prompts are kept."""
        with self._transaction():
            return [self._write(item, text) for item in items]

    def _write(self, item: Decided | Ended | Said, text: bool) -> bool:
        asked = (item.asked.client, item.asked.id)
        match item:
            case Decided():
                decision = (item.category, item.cluster, item.confidence, item.uncertain, item.expert)
                prompt = (item.prompt if text else None, self.digest_of(item.prompt))
                return self._changed(_INSERT, *asked, item.at, item.composition, *decision, *prompt) > 0
            case Ended():
                return self._changed(f"UPDATE decisions SET outcome = ? {_OF}", item.outcome, *asked) > 0
            case Said():
                statement = f"UPDATE decisions SET score = ?, correction = ? {_OF}"
                return self._changed(statement, item.score, item.correction, *asked) > 0

    def trim(self, oldest: float, max_bytes: int) -> None:
        """Deletes what is older than ``oldest``, in seconds since 1970, and then the oldest until what is
        left takes no more than ``max_bytes``. The file keeps its size, and its free pages are used again."""
        with self._transaction():
            self._changed("DELETE FROM decisions WHERE at < ?", oldest)
            while self.used_bytes() > max_bytes and self._changed(
                "DELETE FROM decisions WHERE rowid IN (SELECT rowid FROM decisions ORDER BY at, rowid LIMIT "
                "(SELECT count(*) / 16 + 1 FROM decisions))"
            ):
                pass

    def used_bytes(self) -> int:
        pages, free, size = (
            self._database.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def forget_request(self, request_id: str) -> int:
        """How many there were: clients may have used the same id."""
        return self._forget("id = ?", request_id)

    def forget_before(self, at: float) -> int:
        return self._forget("at < ?", at)

    def forget_all(self) -> int:
        return self._forget("TRUE")

    def _forget(self, condition: str, *values: object) -> int:
        with self._transaction():
            count = self._changed(f"DELETE FROM decisions WHERE {condition}", *values)
        with translated(self.file):
            ((busy, _, _),) = self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if busy:
            raise FeedbackBusy(
                f"{self.file}: {count:,} forgotten, but another process reads them still; try again"
            )
        return count

    def kept(self, since: float = 0.0) -> Iterator[Kept]:
        """From the oldest on, those of ``since`` (seconds since 1970) or later."""
        with translated(self.file):
            rows = self._database.execute(
                "SELECT client, id, at, composition, category, uncertain, expert, prompt, digest, outcome, "
                "score, correction FROM decisions WHERE at >= ? ORDER BY at, rowid",
                (since,),
            )
            for client, request_id, at, composition, category, uncertain, *rest in rows:
                name = self._hash(b"name", client + request_id.encode()).hex()[:24]
                yield Kept(name, at, composition, category, bool(uncertain), *rest)

    def __repr__(self) -> str:
        return f"<FeedbackStore {self.file}>"

    def _hash(self, purpose: bytes, value: bytes) -> bytes:
        return hmac.digest(self._salt, purpose + b":" + value, "sha256")

    def _changed(self, statement: str, *values: object) -> int:
        return self._database.execute(statement, values).rowcount

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with translated(self.file):
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise
