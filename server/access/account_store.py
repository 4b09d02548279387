"""Stores accounts in an SQLite file: the keys that operators made, by the hashes of their secrets, and
usage."""

import json
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from memory_tiers.events import Priority
from server.access.usage import Place, Spent, UsageQuery
from server.config.api_keys import Hashed, Key, KeyRing, Limits, digest_of, shown
from server.storage.database import Database
from server.storage.errors import NameTaken, NotKept
from server.storage.schema import Schema

SCHEMA = Schema(
    setting="accounts.file",
    application_id=0x436F4541,  # CoEA
    versions=(
        (  # 1
            """CREATE TABLE keys (
                name TEXT PRIMARY KEY,   -- for ever: usage is counted by it
                created REAL NOT NULL,   -- seconds since 1970, as all times
                revoked REAL,            -- NULL: it is in force
                models TEXT,             -- JSON list; NULL: any
                requests_per_minute INTEGER,
                tokens_per_minute INTEGER,
                concurrent_requests INTEGER,
                tokens_per_day INTEGER,
                priority TEXT
            )""",
            """CREATE TABLE secrets (
                digest BLOB PRIMARY KEY, -- SHA-256
                key TEXT NOT NULL REFERENCES keys (name),
                shown TEXT NOT NULL,     -- its beginning
                created REAL NOT NULL,
                expires REAL             -- NULL: never
            )""",
            """CREATE TABLE usage (
                day INTEGER NOT NULL,    -- days since 1970, of UTC
                key TEXT NOT NULL,
                expert TEXT NOT NULL,
                requests INTEGER NOT NULL,
                errors INTEGER NOT NULL,
                prompt_tokens INTEGER NOT NULL,
                completion_tokens INTEGER NOT NULL,
                cached_tokens INTEGER NOT NULL,
                PRIMARY KEY (day, key, expert)
            ) WITHOUT ROWID""",
        ),
    ),
)
_KEY = (
    "keys.name, models, requests_per_minute, tokens_per_minute, concurrent_requests, tokens_per_day, priority"
)
_ADD = """INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
    requests = requests + excluded.requests, errors = errors + excluded.errors,
    prompt_tokens = prompt_tokens + excluded.prompt_tokens,
    completion_tokens = completion_tokens + excluded.completion_tokens,
    cached_tokens = cached_tokens + excluded.cached_tokens"""


@dataclass(frozen=True, slots=True)
class MadeSecret:
    """A secret of a key. ``shown``: its beginning. Times are in seconds since 1970; ``expires`` None:
    never."""

    shown: str
    created: float
    expires: float | None


@dataclass(frozen=True, slots=True)
class MadeKey:
    """A key that an operator made. ``revoked``: when, in seconds since 1970; None: it is in force."""

    key: Key
    created: float
    revoked: float | None
    secrets: tuple[MadeSecret, ...]


@dataclass(frozen=True, slots=True)
class Ring:
    """The keys in force. ``next_expiry``: when the next secret ends, in seconds since 1970; None: none
    ends."""

    keys: KeyRing
    next_expiry: float | None


class AccountStore:
    """Reads and writes the file, for one thread at a time; several processes may use it. Raises DatabaseError
    while it is used, and then nothing of that call has been kept. Times are in seconds since 1970."""

    def __init__(self, database: Database) -> None:
        self.file = database.file
        self._database = database

    @classmethod
    def open(cls, file: Path, *, create: bool) -> Self:
        """Opens the file. Raises DatabaseUnreadable, DatabaseUnwritable, DatabaseBusy."""
        return cls(Database.open(file, SCHEMA, create=create))

    def __repr__(self) -> str:
        return f"<AccountStore {self.file}>"

    def close(self) -> None:
        self._database.close()

    def create(self, key: Key, secret: str, at: float) -> None:
        """Adds a key with its first secret. Raises NameTaken, also where a revoked key has the name."""
        limits = key.limits
        models = None if key.models is None else json.dumps(sorted(key.models))
        with self._database.transaction():
            if self._known(key.name):
                raise NameTaken(
                    f"{self.file} has a key named {key.name!r}, perhaps a revoked one; take another name"
                )
            self._database.change(
                "INSERT INTO keys VALUES (?, ?, NULL, ?, ?, ?, ?, ?, ?)",
                key.name,
                at,
                models,
                limits.requests_per_minute,
                limits.tokens_per_minute,
                limits.concurrent_requests,
                limits.tokens_per_day,
                key.priority,
            )
            self._add_secret(key.name, secret, at)

    def rotate(self, name: str, secret: str, at: float, grace_s: float) -> None:
        """Gives a key another secret; its other secrets end ``grace_s`` after ``at``, if not earlier. Raises
        NotKept."""
        with self._database.transaction():
            self._check_in_force(name)
            self._database.change(
                "UPDATE secrets SET expires = min(coalesce(expires, ?1), ?1) WHERE key = ?2",
                at + grace_s,
                name,
            )
            self._database.change("DELETE FROM secrets WHERE key = ? AND expires <= ?", name, at)
            self._add_secret(name, secret, at)

    def revoke(self, name: str, at: float) -> None:
        """Ends a key and forgets its secrets; the name stays taken. Raises NotKept."""
        with self._database.transaction():
            self._check_in_force(name)
            self._database.change("UPDATE keys SET revoked = ? WHERE name = ?", at, name)
            self._database.change("DELETE FROM secrets WHERE key = ?", name)

    def made_keys(self) -> list[MadeKey]:
        """Returns all keys in the order in which they were made."""
        secrets: dict[str, list[MadeSecret]] = {}
        for name, *secret in self._database.rows(
            "SELECT key, shown, created, expires FROM secrets ORDER BY created"
        ):
            secrets.setdefault(name, []).append(MadeSecret(*secret))
        rows = self._database.rows(f"SELECT created, revoked, {_KEY} FROM keys ORDER BY created, name")
        return [
            MadeKey(_key(*key), created, revoked, tuple(secrets.get(key[0], ())))
            for created, revoked, *key in rows
        ]

    def ring(self, at: float) -> Ring:
        """Returns the keys that are in force ``at`` that time."""
        rows = list(
            self._database.rows(
                f"SELECT digest, expires, {_KEY} FROM secrets JOIN keys ON keys.name = secrets.key "
                "WHERE expires IS NULL OR expires > ?",
                at,
            )
        )
        hashed = [Hashed(bytes(digest), _key(*key)) for digest, _, *key in rows]
        ((ever,),) = self._database.rows("SELECT EXISTS (SELECT * FROM keys)")
        expiries = [expires for _, expires, *_ in rows if expires is not None]
        return Ring(KeyRing(hashed, ever=bool(ever)), min(expiries, default=None))

    def changes(self) -> int:
        """Returns a number that is another one once another connection, of any process, has changed the
        file."""
        return self._database.number("data_version")

    def add(self, usage: Mapping[Place, Spent]) -> None:
        """Adds usage to what is counted already."""
        with self._database.transaction():
            for place, spent in usage.items():
                self._database.change(
                    _ADD,
                    place.day,
                    place.key,
                    place.expert,
                    spent.requests,
                    spent.errors,
                    spent.prompt_tokens,
                    spent.completion_tokens,
                    spent.cached_tokens,
                )

    def usage(self, wanted: UsageQuery) -> Iterator[tuple[Place, Spent]]:
        """Yields the rows asked for, in the order of day, key and expert."""
        rows = self._database.rows(
            "SELECT * FROM usage WHERE (?1 IS NULL OR day >= ?1) AND (?2 IS NULL OR day <= ?2) "
            "AND (?3 IS NULL OR key = ?3) AND (?4 IS NULL OR expert = ?4) ORDER BY day, key, expert",
            wanted.since,
            wanted.until,
            wanted.key,
            wanted.expert,
        )
        for day, key, expert, *spent in rows:
            yield Place(day, key, expert), Spent(*spent)

    def tokens_of(self, day: int) -> dict[str, int]:
        """Returns for each key all tokens that it used on ``day``."""
        return dict(
            self._database.rows(
                "SELECT key, sum(prompt_tokens + completion_tokens) FROM usage WHERE day = ? GROUP BY key",
                day,
            )
        )

    def forget_before(self, day: int) -> None:
        """Deletes the usage of earlier days."""
        with self._database.transaction():
            self._database.change("DELETE FROM usage WHERE day < ?", day)

    def _add_secret(self, name: str, secret: str, at: float) -> None:
        self._database.change(
            "INSERT INTO secrets VALUES (?, ?, ?, ?, NULL)",
            digest_of(secret.encode()),
            name,
            shown(secret),
            at,
        )

    def _check_in_force(self, name: str) -> None:
        """Raises NotKept where the key is not there, or was revoked."""
        if not self._known(name, "AND revoked IS NULL"):
            state = "was revoked already" if self._known(name) else "is not there"
            raise NotKept(f"the key {name!r} of {self.file} {state}; coe keys list shows all")

    def _known(self, name: str, condition: str = "") -> bool:
        return any(self._database.rows(f"SELECT 1 FROM keys WHERE name = ? {condition}", name))


def _key(
    name: str,
    models: str | None,
    requests_per_minute: int | None,
    tokens_per_minute: int | None,
    concurrent_requests: int | None,
    tokens_per_day: int | None,
    priority: Priority | None,
) -> Key:
    limits = Limits(requests_per_minute, tokens_per_minute, concurrent_requests, tokens_per_day)
    return Key(name, limits, None if models is None else frozenset(json.loads(models)), priority)


@contextmanager
def opened(file: Path, *, create: bool) -> Iterator[AccountStore]:
    """Opens the file for one command."""
    with closing(AccountStore.open(file, create=create)) as store:
        yield store
