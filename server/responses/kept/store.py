"""Store of responses: an SQLite file or memory, bounded in number, bytes and age.

Deleted rows are overwritten (``secure_delete``). Nothing in here knows of HTTP.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import orjson

from server.config.responses import ResponsesConfig
from server.responses.kept.gateways import Gateways
from server.responses.wire.items import Item
from server.storage.database import Database
from server.storage.retention_clock import RetentionClock
from server.storage.schema import Schema

DAY_S = 86_400.0
RUNNING = ("queued", "in_progress")
"""Statuses of a response that has not ended."""
SCHEMA = Schema(
    setting="responses.file",
    application_id=0x436F4552,  # CoER
    versions=(
        (
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
        (
            # Which gateway makes a response that is running. A table of its own: while gateways are replaced
            # one by one, one that knows version 1 alone goes on writing its responses.
            "CREATE TABLE runs (id TEXT PRIMARY KEY, gateway TEXT NOT NULL)",
            """CREATE TRIGGER ran AFTER DELETE ON responses BEGIN
                DELETE FROM runs WHERE id = OLD.id;
            END""",
        ),
    ),
)
_KEEP = "INSERT INTO responses VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_END = "UPDATE responses SET running = 0, response = ? WHERE id = ?"
_RUNS = "SELECT gateway FROM runs WHERE id = ?"
_FIND = "SELECT previous, input, response, bytes FROM responses WHERE id = ? AND owner = ?"
_MOST = "SELECT owner, count FROM owners ORDER BY bytes DESC LIMIT 1"
_OLDEST = """DELETE FROM responses WHERE id IN
    (SELECT id FROM responses WHERE owner = ? AND NOT running ORDER BY used_at LIMIT ?)"""


@dataclass(frozen=True, slots=True)
class KeptResponse:
    """Kept response. ``owner``: see ``owner_of``. ``previous``: the id of the response that it goes on from.
    ``input``: its own items alone."""

    id: str
    owner: str
    previous: str | None
    input: Sequence[Item]
    response: Mapping[str, Any]

    @property
    def running(self) -> bool:
        return self.response["status"] in RUNNING

    @property
    def ends_a_run(self) -> bool:
        """Says whether it was kept before, while it was running in the background."""
        return bool(self.response.get("background")) and not self.running

    @property
    def items(self) -> list[Item]:
        """The items that it adds to its conversation."""
        return [*self.input, *self.response["output"]]


class ConversationTooLong(Exception):
    pass


class ResponseStore:
    """Keeps responses for one thread at a time. Its methods raise DatabaseUnwritable and DatabaseBusy.

    Several gateways may use one file. Each makes its own responses in the background; those of a gateway that
    has ended are marked failed once another starts or asks for them.
    """

    def __init__(
        self,
        config: ResponsesConfig,
        database: Database,
        clock: RetentionClock,
        gateways: Gateways | None = None,
    ) -> None:
        """``gateways``: those of the file; None: the store is in memory, and this gateway's alone."""
        self._config = config
        self._database = database
        self._clock = clock
        self._gateways = gateways

    @classmethod
    def open(cls, config: ResponsesConfig, clock: RetentionClock | None = None) -> Self:
        """Opens the store. Raises DatabaseUnreadable, DatabaseUnwritable, DatabaseBusy."""
        clock = clock or RetentionClock()
        if config.file is None:
            return cls(config, Database.in_memory(SCHEMA), clock)
        database = Database.open(config.file, SCHEMA, create=True)
        try:
            gateways = Gateways(config.file.with_name(f"{config.file.name}.gateways"))
            store = cls(config, database, clock, gateways)
            store._fail_abandoned()
        except BaseException:
            database.close()
            raise
        return store

    def close(self) -> None:
        self._database.close()
        if self._gateways is not None:
            self._gateways.close()

    def keep(self, kept: KeptResponse) -> None:
        """Keeps a response in the place of one with the same id. Others make room; one larger than the limit
        is dropped at once. The end of a run that another gateway has cancelled or deleted is not kept."""
        items, response = orjson.dumps(kept.input), orjson.dumps(kept.response)
        size = len(items) + len(response)
        row = (kept.id, kept.owner, kept.previous, self._clock(), kept.running, size, items, response)
        with self._database.transaction():
            if kept.ends_a_run and not list(self._database.rows(_RUNS, kept.id)):
                return
            self._database.change("DELETE FROM responses WHERE id = ?", kept.id)
            self._database.change(_KEEP, *row)
            if kept.running:
                self._database.change("INSERT INTO runs VALUES (?, ?)", kept.id, self._own)
            self._forget_old()
            self._make_room()

    def find(self, owner: str, id: str) -> KeptResponse | None:
        with self._database.transaction():
            self._forget_old()
            found = self._find(owner, id)
            return found and found[0]

    def conversation(self, owner: str, id: str, most_bytes: int) -> list[KeptResponse]:
        """Returns the response with this ``id`` and those before it, the first one first, and marks all as
        used now. Empty if one of them is not kept. Raises ConversationTooLong."""
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
        """Deletes a response, and says whether it was kept."""
        with self._database.transaction():
            return self._database.change("DELETE FROM responses WHERE id = ? AND owner = ?", id, owner) > 0

    def __repr__(self) -> str:
        ((count,),) = self._database.rows("SELECT count(*) FROM responses")
        return f"<ResponseStore {self._database.file} [{count} kept]>"

    def _find(self, owner: str, id: str) -> tuple[KeptResponse, int] | None:
        """Returns the response and its size in bytes."""
        rows = list(self._database.rows(_FIND, id, owner))
        if not rows:
            return None
        ((previous, items, response, size),) = rows
        kept = KeptResponse(id, owner, previous, orjson.loads(items), orjson.loads(response))
        if kept.running and self._is_abandoned(id):
            kept = replace(kept, response=self._fail(id, kept.response))
        return kept, size

    def _forget_old(self) -> None:
        oldest = self._clock.before(self._config.keep_days * DAY_S)
        self._database.change("DELETE FROM responses WHERE used_at < ?", oldest)

    def _make_room(self) -> None:
        """Deletes a sixteenth of the largest owner's responses at a time, so that not every response costs a
        search."""
        while self._too_much():
            ((owner, count),) = self._database.rows(_MOST)
            if not self._database.change(_OLDEST, owner, count // 16 + 1):
                return  # what is left runs, and is bounded by how many may

    def _too_much(self) -> bool:
        ((count, size),) = self._database.rows("SELECT total(count), total(bytes) FROM owners")
        return bool(count > self._config.max_count or size > self._config.max_bytes)

    @property
    def _own(self) -> str:
        return "" if self._gateways is None else self._gateways.own

    def _is_abandoned(self, id: str) -> bool:
        """Says whether the gateway that was making the response has ended."""
        if self._gateways is None:
            return False
        made_by = [gateway for (gateway,) in self._database.rows(_RUNS, id)]
        return not any(map(self._gateways.runs, made_by))

    def _fail(self, id: str, response: Mapping[str, Any]) -> Mapping[str, Any]:
        failed = ended(response, "failed", "server_error", "The gateway was stopped.")
        self._database.change(_END, orjson.dumps(failed), id)
        self._database.change("DELETE FROM runs WHERE id = ?", id)
        return failed

    def _fail_abandoned(self) -> None:
        """Marks as failed the responses whose gateway has ended."""
        assert self._gateways is not None
        with self._database.transaction():
            rows = list(self._database.rows("SELECT id, response FROM responses WHERE running"))
            for id, response in rows:
                if self._is_abandoned(id):
                    self._fail(id, orjson.loads(response))
        self._gateways.remove_ended()


def ended(
    response: Mapping[str, Any], status: str, code: str | None = None, message: str = ""
) -> dict[str, Any]:
    """Returns ``response`` with another ``status``. ``code``: one of OpenAI's for a response that failed."""
    error = None if code is None else {"code": code, "message": message}
    return {**response, "status": status, "error": error}
