"""The responses that are kept: an SQLite file or memory, bounded in number, bytes and age.

Deleted rows are overwritten (``secure_delete``). Nothing in here knows of HTTP.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import orjson

from server.config.responses import ResponsesConfig
from server.responses.items import Item
from server.storage.database import Database, Schema

DAY_S = 86_400.0
RUNNING = ("queued", "in_progress")
"""Status of a response that has not ended."""
_SCHEMA = Schema(
    setting="responses.file",
    application_id=0x436F4552,  # CoER
    version=1,
    tables=(
        """CREATE TABLE responses (
            id TEXT PRIMARY KEY,
            owner TEXT NOT NULL,
            previous TEXT,             -- the response that it goes on from
            used_at REAL NOT NULL,     -- seconds since 1970: when it was kept or last gone on from
            running INTEGER NOT NULL,
            bytes INTEGER NOT NULL,    -- of input and response
            input BLOB NOT NULL,       -- a JSON list of items
            response BLOB NOT NULL     -- the JSON object
        )""",
        "CREATE INDEX by_use ON responses (used_at)",
        "CREATE INDEX by_owner ON responses (owner, used_at)",
        # Counted as they come and go: counting them all would cost each response a millisecond.
        "CREATE TABLE owners (owner TEXT PRIMARY KEY, count INTEGER NOT NULL, bytes INTEGER NOT NULL)",
        """CREATE TRIGGER came AFTER INSERT ON responses BEGIN
            INSERT INTO owners VALUES (NEW.owner, 1, NEW.bytes)
                ON CONFLICT DO UPDATE SET count = count + 1, bytes = bytes + NEW.bytes;
        END""",
        """CREATE TRIGGER went AFTER DELETE ON responses BEGIN
            UPDATE owners SET count = count - 1, bytes = bytes - OLD.bytes WHERE owner = OLD.owner;
            DELETE FROM owners WHERE owner = OLD.owner AND count = 0;
        END""",
    ),
)
_KEEP = "INSERT INTO responses VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_FIND = "SELECT previous, input, response, bytes FROM responses WHERE id = ? AND owner = ?"
_MOST = "SELECT owner, count FROM owners ORDER BY bytes DESC LIMIT 1"
_OLDEST = """DELETE FROM responses WHERE id IN
    (SELECT id FROM responses WHERE owner = ? AND NOT running ORDER BY used_at LIMIT ?)"""


@dataclass(frozen=True, slots=True)
class KeptResponse:
    """``owner``: see ``owner_of``. ``previous``: the id of the response that it goes on from. ``input``: its
    own items alone."""

    id: str
    owner: str
    previous: str | None
    input: Sequence[Item]
    response: Mapping[str, Any]

    @property
    def running(self) -> bool:
        return self.response["status"] in RUNNING

    @property
    def items(self) -> list[Item]:
        """What it adds to its conversation."""
        return [*self.input, *self.response["output"]]


class ConversationTooLong(Exception):
    pass


class ResponseStore:
    """For one thread at a time. What it raises while it is used is DatabaseUnwritable or DatabaseBusy."""

    def __init__(self, config: ResponsesConfig, database: Database, clock: Callable[[], float]) -> None:
        self._config = config
        self._database = database
        self._clock = clock

    @classmethod
    def open(cls, config: ResponsesConfig, clock: Callable[[], float] = time.time) -> Self:
        """What ran when an earlier process ended has failed. Raises DatabaseUnreadable, DatabaseUnwritable,
        DatabaseBusy."""
        if config.file is None:
            return cls(config, Database.in_memory(_SCHEMA), clock)
        store = cls(config, Database.open(config.file, _SCHEMA, create=True), clock)
        try:
            store._fail_running()
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        self._database.close()

    def keep(self, kept: KeptResponse) -> None:
        """In the place of one with the same id. Others make room, and it is itself gone at once if it is
        larger than all may be."""
        items, response = orjson.dumps(kept.input), orjson.dumps(kept.response)
        size = len(items) + len(response)
        row = (kept.id, kept.owner, kept.previous, self._clock(), kept.running, size, items, response)
        with self._database.transaction():
            self._database.change("DELETE FROM responses WHERE id = ?", kept.id)
            self._database.change(_KEEP, *row)
            self._forget_old()
            self._make_room()

    def find(self, owner: str, id: str) -> KeptResponse | None:
        with self._database.transaction():
            self._forget_old()
            found = self._find(owner, id)
            return found and found[0]

    def conversation(self, owner: str, id: str, most_bytes: int) -> list[KeptResponse]:
        """The response with this ``id`` and those before it, the first one first, all of them used now. Empty
        if one of them is not kept. Raises ConversationTooLong."""
        chain: list[KeptResponse] = []
        left = most_bytes
        with self._database.transaction():
            self._forget_old()
            at: str | None = id
            while at is not None:
                found = self._find(owner, at)
                if found is None:
                    return []
                kept, size = found
                left -= size
                if left < 0:
                    raise ConversationTooLong(f"more than {most_bytes} bytes")
                chain.append(kept)
                at = kept.previous
            for kept in chain:
                self._database.change("UPDATE responses SET used_at = ? WHERE id = ?", self._clock(), kept.id)
        return chain[::-1]

    def delete(self, owner: str, id: str) -> bool:
        """Whether it was kept."""
        with self._database.transaction():
            return self._database.change("DELETE FROM responses WHERE id = ? AND owner = ?", id, owner) > 0

    def __repr__(self) -> str:
        ((count,),) = self._database.rows("SELECT count(*) FROM responses")
        return f"<ResponseStore {self._database.file} [{count} kept]>"

    def _find(self, owner: str, id: str) -> tuple[KeptResponse, int] | None:
        """And its size in bytes."""
        rows = list(self._database.rows(_FIND, id, owner))
        if not rows:
            return None
        ((previous, items, response, size),) = rows
        return KeptResponse(id, owner, previous, orjson.loads(items), orjson.loads(response)), size

    def _forget_old(self) -> None:
        oldest = self._clock() - self._config.keep_days * DAY_S
        self._database.change("DELETE FROM responses WHERE used_at < ?", oldest)

    def _make_room(self) -> None:
        """A sixteenth of the largest owner's at a time, so that not every response costs a search."""
        while self._too_much():
            ((owner, count),) = self._database.rows(_MOST)
            if not self._database.change(_OLDEST, owner, count // 16 + 1):
                return  # what is left runs, and is bounded by how many may

    def _too_much(self) -> bool:
        ((count, size),) = self._database.rows("SELECT total(count), total(bytes) FROM owners")
        return bool(count > self._config.max_count or size > self._config.max_bytes)

    def _fail_running(self) -> None:
        rows = list(self._database.rows("SELECT id, response FROM responses WHERE running"))
        with self._database.transaction():
            for id, response in rows:
                failed = ended(orjson.loads(response), "failed", "server_error", "The gateway was stopped.")
                self._database.change(
                    "UPDATE responses SET running = 0, response = ? WHERE id = ?", orjson.dumps(failed), id
                )


def ended(
    response: Mapping[str, Any], status: str, code: str | None = None, message: str = ""
) -> dict[str, Any]:
    """``response`` with another ``status``. ``code``: one of OpenAI's for a response that failed."""
    error = None if code is None else {"code": code, "message": message}
    return {**response, "status": status, "error": error}
