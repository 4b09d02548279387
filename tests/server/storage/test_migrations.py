"""Files of every version that was released open with all that is in them; a copy of before is kept."""

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

import server.access.account_store as accounts
import server.batches.store as batches
import server.feedback.store as feedback
import server.responses.kept.store as responses
from server.access.usage import Place, Spent, UsageQuery
from server.batches.records import RequestCounts, Tokens
from server.config.api_keys import Key, Limits, digest_of
from server.config.responses import ResponsesConfig
from server.storage.copies import KEPT_S, copies_of, copy_of
from server.storage.database import Database
from server.storage.errors import DatabaseError, DatabaseUnreadable, DatabaseUnwritable
from server.storage.retention_clock import RetentionClock
from server.storage.schema import Schema

RELEASED = Path(__file__).parent / "released"
"""A dump of a file of each version, made by the program that wrote it."""
DAY_S = 86_400


def accounts_are_there(file: Path) -> None:
    with closing(accounts.AccountStore.open(file, create=False)) as store:
        found = store.ring(12.0).keys.find(digest_of(b"sk-coe-01234567-a-secret"))
        assert found == Key("law-office", Limits(5, 100, 2, 1000), frozenset({"law", "coe"}), "low")
        assert [(made.key.name, made.revoked) for made in store.made_keys()] == [
            ("law-office", None),
            ("any", 20.0),
        ]
        assert dict(store.usage(UsageQuery())) == {Place(20000, "law-office", "law"): Spent(3, 1, 30, 15, 6)}


def feedback_is_there(file: Path) -> None:
    with closing(feedback.FeedbackStore.open(file, create=False)) as store:
        (row,) = store.kept()
        assert (row.at, row.category, row.prompt) == (1000.0, "law", "what is a tort")
        assert (row.score, row.correction) == (0.5, "math")
        assert store.forget_client(store.client_of("key app")) == 1


def batches_are_there(file: Path) -> None:
    with closing(batches.BatchStore.open(file)) as store:
        page = store.files("key app", batches.PageQuery(limit=10))
        assert [(entry.id, entry.bytes) for entry in page.entries] == [("file-out", 7), ("file-in", 7)]
        (batch,) = store.unfinished()
        assert (batch.id, batch.owner, batch.key, batch.status) == (
            "batch_1",
            "key app",
            "app",
            "in_progress",
        )
        assert batch.counts == RequestCounts(3, 1, 1, Tokens(7, 1, 5, 0))


def responses_are_there(file: Path) -> None:
    config = ResponsesConfig(file=file)
    with closing(responses.ResponseStore.open(config, RetentionClock(lambda: 1000.0))) as store:
        chain = store.conversation("key app", "resp_2", 10_000)
        assert [(kept.id, kept.previous) for kept in chain] == [("resp_1", None), ("resp_2", "resp_1")]
        ran = store.find("key app", "resp_3")
        assert ran is not None
        assert ran.response["status"] == "failed"
        assert store.delete("key app", "resp_3")


@dataclass(frozen=True, slots=True)
class Kind:
    schema: Schema
    rows_are_there: Callable[[Path], None]


KINDS: Mapping[str, Kind] = {
    "accounts": Kind(accounts.SCHEMA, accounts_are_there),
    "feedback": Kind(feedback.SCHEMA, feedback_is_there),
    "batches": Kind(batches.SCHEMA, batches_are_there),
    "responses": Kind(responses.SCHEMA, responses_are_there),
}
FILES = [(name, version) for name, kind in KINDS.items() for version in range(1, kind.schema.newest + 1)]


def released(folder: Path, name: str, version: int) -> Path:
    """A file as that version left it."""
    file = folder / f"{name}.sqlite"
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript((RELEASED / f"{name}.v{version}.sql").read_text(encoding="utf-8"))
    return file


def dump(file: Path) -> list[str]:
    with closing(sqlite3.connect(file)) as connection:
        ((version,),) = connection.execute("PRAGMA user_version")
        return [*connection.iterdump(), f"version {version}"]


def tables(file: Path) -> set[tuple[str, str]]:
    with closing(sqlite3.connect(file)) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
        return {(name, " ".join(sql.split())) for name, sql in rows}


def test_there_is_a_file_of_every_version() -> None:
    assert sorted(file.name for file in RELEASED.iterdir()) == sorted(f"{n}.v{v}.sql" for n, v in FILES)


@pytest.mark.parametrize(("name", "version"), FILES)
def test_a_file_of_every_released_version_opens_with_its_rows(
    tmp_path: Path, name: str, version: int
) -> None:
    kind = KINDS[name]
    file = released(tmp_path, name, version)
    before = dump(file)
    kind.rows_are_there(file)
    fresh = tmp_path / "fresh.sqlite"
    Database.open(fresh, kind.schema, create=True).close()
    assert tables(file) == tables(fresh)
    assert dump(file)[-1] == f"version {kind.schema.newest}"
    if version == kind.schema.newest:
        assert [*copies_of(file)] == []
    elif name != "feedback":  # whose rows were forgotten, and they are in no copy either
        (copy,) = copies_of(file)
        assert copy.name == f"{name}.v{version}.sqlite"
        assert dump(copy) == before
        assert copy.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", KINDS)
def test_a_file_of_a_newer_version_is_refused_in_one_line_and_left_alone(tmp_path: Path, name: str) -> None:
    schema = KINDS[name].schema
    newer = Schema(schema.setting, schema.application_id, (*schema.versions, ("CREATE TABLE more (x)",)))
    file = tmp_path / f"{name}.sqlite"
    Database.open(file, newer, create=True).close()
    before = dump(file)
    with pytest.raises(DatabaseUnreadable) as caught:
        KINDS[name].rows_are_there(file)
    assert str(caught.value) == (
        f"{file} has version {newer.newest}, which a newer program wrote; this one reads up to "
        f"{schema.newest}: install the newer one, or put a copy of before in its place, such as "
        f"{name}.v{schema.newest}.sqlite"
    )
    assert dump(file) == before


ONE = ("CREATE TABLE things (name TEXT)", "INSERT INTO things VALUES ('first')")
TWO = ("ALTER TABLE things ADD COLUMN size INTEGER", "UPDATE things SET size = 7")


def schema(*versions: Iterable[str]) -> Schema:
    return Schema("things.file", 0x436F4554, tuple(map(tuple, versions)))


def things(file: Path, *versions: Iterable[str]) -> list[tuple[object, ...]]:
    with closing(Database.open(file, schema(*versions), create=True)) as database:
        return [*database.rows("SELECT * FROM things")]


def test_a_new_file_walks_through_all_versions_and_leaves_no_copy(tmp_path: Path) -> None:
    assert things(tmp_path / "things.sqlite", ONE, TWO) == [("first", 7)]
    assert [*copies_of(tmp_path / "things.sqlite")] == []


def test_what_stands_in_the_log_alone_is_in_the_copy_too(tmp_path: Path) -> None:
    file = tmp_path / "things.sqlite"
    reader = Database.open(file, schema(ONE), create=True)  # while it is open the log stays
    with reader.transaction():
        reader.change("INSERT INTO things VALUES ('second')")
    assert things(file, ONE, TWO) == [("first", 7), ("second", 7)]
    reader.close()
    assert things(copy_of(file, 1), ONE) == [("first",), ("second",)]


def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "things.sqlite"
    things(file, ONE)
    with pytest.raises(DatabaseUnwritable, match="no such table: absent"):
        things(file, ONE, (*TWO, "INSERT INTO absent VALUES (1)"))
    assert dump(file)[-1] == "version 1"
    assert things(file, ONE) == [("first",)]
    assert things(file, ONE, TWO) == [("first", 7)]


def test_without_room_for_a_copy_nothing_is_changed(tmp_path: Path) -> None:
    file = tmp_path / "things.sqlite"
    things(file, ONE)
    (copy_of(file, 1) / "in the way").mkdir(parents=True)
    with pytest.raises(DatabaseUnwritable, match="no copy of it can be kept beside it: Is a directory"):
        things(file, ONE, TWO)
    assert things(file, ONE) == [("first",)]
    assert {entry.name for entry in tmp_path.iterdir()} == {"things.sqlite", "things.v1.sqlite"}


def test_of_several_that_open_an_old_file_at_once_one_brings_it_up(tmp_path: Path) -> None:
    file = tmp_path / "things.sqlite"
    things(file, ONE)
    begin, found = threading.Barrier(8), []

    def open_it() -> None:
        begin.wait()
        found.append(things(file, ONE, TWO))

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[("first", 7)]] * 8
    assert [copy.name for copy in copies_of(file)] == ["things.v1.sqlite"]


def test_copies_are_deleted_after_a_month_and_when_something_is_to_be_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "things.sqlite"
    things(file, ONE)
    things(file, ONE, TWO)
    beside = tmp_path / "things.value.sqlite"
    beside.touch()
    assert things(file, ONE, TWO) == [("first", 7)]
    assert copy_of(file, 1).exists()
    month_ago = time.time() - KEPT_S - 1
    os.utime(copy_of(file, 1), (month_ago, month_ago))
    things(file, ONE, TWO)
    assert not copy_of(file, 1).exists()

    things(file, ONE, TWO, ["SELECT 1"])
    assert copy_of(file, 2).exists()
    with closing(Database.open(file, schema(ONE, TWO, ["SELECT 1"]), create=False)) as database:
        assert database.rewritten()
    assert not copy_of(file, 2).exists()
    assert beside.exists()


def test_every_database_error_of_a_wrong_file_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "things.sqlite"
    file.write_bytes(b"no database at all, but long enough to be read as one" * 20)
    with pytest.raises(DatabaseError) as caught:
        things(file, ONE)
    assert "\n" not in str(caught.value)
