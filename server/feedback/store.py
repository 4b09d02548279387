"""Stores the feedback loop in an SQLite file: decisions and what clients said of them; and forgets them.

Deleted rows are overwritten (``secure_delete``). Nothing in here knows of HTTP.
"""

import hmac
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from server.feedback.records import Decided, Ended, Kept, Said
from server.storage.database import Database
from server.storage.errors import DatabaseBusy
from server.storage.schema import Schema

_INSERT = """INSERT OR REPLACE INTO decisions (client, id, at, composition, category, cluster, confidence,
    uncertain, expert, prompt, digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_OF = "WHERE client = ? AND id = ?"


class FeedbackStore:
    """Reads and writes the file, for one thread at a time. What it raises while it is used is
    DatabaseUnwritable or DatabaseBusy, and then nothing of that call has been kept."""

    def __init__(self, database: Database) -> None:
        self.file = database.file
        self._database = database
        self._salt = self._salted()

    @classmethod
    def open(cls, file: Path, *, create: bool) -> Self:
        """Opens the file. Raises DatabaseUnreadable, DatabaseUnwritable, DatabaseBusy."""
        return cls(Database.open(file, SCHEMA, create=create))

    def close(self) -> None:
        self._database.close()

    def client_of(self, owner: str) -> bytes:
        """Returns the hash of an owner; see ``owner_of``."""
        return self._hash(b"owner", owner.encode())

    def digest_of(self, prompt: str) -> bytes:
        return self._hash(b"prompt", prompt.encode("utf-8", "replace"))

    def write(self, items: Sequence[Decided | Ended | Said], *, text: bool) -> list[bool]:
        """Writes all or nothing; returns for each item whether its request is known. A request's later
        decision replaces an earlier one, and later feedback earlier feedback. ``text``: whether prompts are
        kept."""
        with self._database.transaction():
            return [self._write(item, text) for item in items]

    def _write(self, item: Decided | Ended | Said, text: bool) -> bool:
        key = (item.key.client, item.key.id)
        match item:
            case Decided():
                decision = (item.category, item.cluster, item.confidence, item.uncertain, item.expert)
                prompt = (item.prompt if text else None, self.digest_of(item.prompt))
                return self._changed(_INSERT, *key, item.at, item.composition, *decision, *prompt) > 0
            case Ended():
                return self._changed(f"UPDATE decisions SET outcome = ? {_OF}", item.outcome, *key) > 0
            case Said():
                statement = f"UPDATE decisions SET score = ?, correction = ? {_OF}"
                return self._changed(statement, item.score, item.correction, *key) > 0

    def trim(self, oldest: float, max_bytes: int) -> None:
        """Deletes what is older than ``oldest``, in seconds since 1970, and then the oldest until what is
        left takes no more than ``max_bytes``. The file keeps its size, and its free pages are used again."""
        with self._database.transaction():
            self._changed("DELETE FROM decisions WHERE at < ?", oldest)
            while self.used_bytes() > max_bytes and self._changed(
                "DELETE FROM decisions WHERE rowid IN (SELECT rowid FROM decisions ORDER BY at, rowid LIMIT "
                "(SELECT count(*) / 16 + 1 FROM decisions))"
            ):
                pass

    def used_bytes(self) -> int:
        pages, free, size = map(self._database.number, ("page_count", "freelist_count", "page_size"))
        return (pages - free) * size

    def forget_request(self, request_id: str) -> int:
        """Deletes a request's decisions. Returns how many there were: clients may have used the same id."""
        return self._forget("id = ?", request_id)

    def forget_client(self, client: bytes) -> int:
        return self._forget("client = ?", client)

    def forget_before(self, at: float) -> int:
        return self._forget("at < ?", at)

    def forget_all(self) -> int:
        return self._forget("TRUE")

    def _forget(self, condition: str, *values: object) -> int:
        with self._database.transaction():
            count = self._changed(f"DELETE FROM decisions WHERE {condition}", *values)
        if not self._database.rewritten():
            raise DatabaseBusy(
                f"{self.file}: {count:,} forgotten, but another process reads them still; try again"
            )
        return count

    def kept(self, since: float = 0.0) -> Iterator[Kept]:
        """Yields the decisions of ``since`` (seconds since 1970) or later, from the oldest on."""
        rows = self._database.rows(
            "SELECT client, id, at, composition, category, uncertain, expert, cluster, prompt, digest, "
            "outcome, score, correction FROM decisions WHERE at >= ? ORDER BY at, rowid",
            since,
        )
        for client, request_id, at, composition, category, uncertain, *rest in rows:
            name = self._hash(b"name", client + request_id.encode()).hex()[:24]
            yield Kept(name, at, composition, category, bool(uncertain), *rest)

    def __repr__(self) -> str:
        return f"<FeedbackStore {self.file}>"

    def _hash(self, purpose: bytes, value: bytes) -> bytes:
        return hmac.digest(self._salt, purpose + b":" + value, "sha256")

    def _changed(self, statement: str, *values: object) -> int:
        return self._database.change(statement, *values)

    def _salted(self) -> bytes:
        """Returns the key of the hashes, which is made with the file."""
        with self._database.transaction():
            self._changed(
                "INSERT INTO salt SELECT ? WHERE NOT EXISTS (SELECT * FROM salt)", secrets.token_bytes(32)
            )
            ((salt,),) = self._database.rows("SELECT value FROM salt")
        return bytes(salt)


SCHEMA = Schema(
    setting="feedback.file",
    application_id=0x436F4546,  # CoEF
    versions=(
        (  # 1
            "CREATE TABLE salt (value BLOB NOT NULL)",
            """CREATE TABLE decisions (
                id TEXT NOT NULL,          -- of the request, as x-request-id says it
                client BLOB NOT NULL,      -- keyed hash of its owner: the name of the API key it came with
                at REAL NOT NULL,          -- seconds since 1970
                composition TEXT NOT NULL,
                category TEXT NOT NULL,
                cluster TEXT NOT NULL,
                confidence REAL NOT NULL,
                uncertain INTEGER NOT NULL,
                expert TEXT NOT NULL,
                prompt TEXT,               -- redacted; NULL where feedback.prompts is hash
                digest BLOB NOT NULL,      -- keyed hash of the redacted prompt
                outcome TEXT,              -- HTTP status or client_left; NULL until it ended
                score REAL,
                correction TEXT,
                PRIMARY KEY (client, id)
            )""",
            "CREATE INDEX by_time ON decisions (at)",
        ),
    ),
)
