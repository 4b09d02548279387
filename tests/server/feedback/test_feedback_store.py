"""The file of the feedback loop: what is kept, for how long, and that forgetting is for good."""

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from server.feedback.export import counts_of, example_of
from server.feedback.records import Decided, Ended, FeedbackKey, Kept, Said
from server.feedback.store import FeedbackStore
from server.storage.errors import DatabaseError

MARKED = "a secret of the marked prompt"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeedbackStore]:
    opened = FeedbackStore.open(tmp_path / "new" / "feedback.sqlite", create=True)
    yield opened
    opened.close()


def decided(
    request_id: str = "r", *, client: bytes = b"c", at: float = 1000.0, prompt: str = "hello"
) -> Decided:
    return Decided(FeedbackKey(request_id, client), at, "coe", "law", "law/2", 0.9, False, "law", prompt)


def kept(store: FeedbackStore) -> list[Kept]:
    return list(store.kept())


def test_a_decision_its_end_and_what_is_said_of_it_are_one_row(store: FeedbackStore) -> None:
    key = decided().key
    items: list[Decided | Ended | Said] = [
        decided(),
        Ended(key, "200"),
        Said(key, 0.5, None),
        Said(key, 1.0, "math"),
    ]
    assert store.write(items, text=True) == [True] * 4
    (row,) = kept(store)
    assert (row.category, row.expert, row.prompt, row.outcome) == ("law", "law", "hello", "200")
    assert (row.score, row.correction) == (1.0, "math")


def test_a_request_is_known_by_its_id_and_its_client(store: FeedbackStore) -> None:
    store.write([decided(), decided(client=b"other", prompt="theirs")], text=True)
    assert store.write(
        [Said(FeedbackKey("r", b"nobody"), 1.0, None), Said(FeedbackKey("r", b"c"), 1.0, None)], text=True
    ) == [
        False,
        True,
    ]
    assert [(row.prompt, row.score) for row in kept(store)] == [("hello", 1.0), ("theirs", None)]
    assert len({row.name for row in kept(store)}) == 2


def test_a_later_decision_of_the_same_request_replaces_it_and_what_was_said(store: FeedbackStore) -> None:
    store.write([decided(), Said(decided().key, 1.0, None), decided(prompt="again")], text=True)
    assert [(row.prompt, row.score) for row in kept(store)] == [("again", None)]


def test_a_hash_keeps_no_text_and_tells_equal_prompts(store: FeedbackStore) -> None:
    store.write([decided("1", prompt=MARKED), decided("2", prompt=MARKED), decided("3")], text=False)
    assert [example_of(row) for row in kept(store)] == [None] * 3
    assert (counts_of(kept(store)).texts, counts_of(kept(store)).different) == (0, 2)
    assert not on_disk(store, MARKED)


def on_disk(store: FeedbackStore, text: str) -> bool:
    return any(text.encode() in file.read_bytes() for file in store.file.parent.iterdir())


def test_what_is_forgotten_is_gone_from_the_disk(store: FeedbackStore) -> None:
    store.write([decided("1", prompt=MARKED), decided("2", client=b"d"), decided("2", at=3.0)], text=True)
    assert on_disk(store, MARKED)
    assert store.forget_request("1") == 1
    assert not on_disk(store, MARKED)
    assert store.forget_request("1") == 0
    assert store.forget_before(1000.0) == 1
    store.write([decided("3", client=b"e"), decided("4", client=b"e", prompt=MARKED)], text=True)
    assert store.forget_client(b"e") == 2
    assert not on_disk(store, MARKED)
    assert store.forget_all() == 1
    assert kept(store) == []


def test_nobody_else_may_read_the_files(store: FeedbackStore) -> None:
    store.write([decided()], text=True)
    files = list(store.file.parent.iterdir())
    assert len(files) == 3  # with SQLite's -wal and -shm
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def test_what_is_too_old_goes_and_then_the_oldest_until_the_rest_fits(store: FeedbackStore) -> None:
    rows = [decided(str(number), at=float(number), prompt="x" * 4000) for number in range(1000)]
    store.write(rows, text=True)
    store.trim(oldest=10.0, max_bytes=2**30)
    assert [row.at for row in kept(store)] == [float(number) for number in range(10, 1000)]
    store.trim(oldest=10.0, max_bytes=2**20)
    left = [row.at for row in kept(store)]
    assert 100 < len(left) < 300
    assert left == [float(number) for number in range(1000 - len(left), 1000)]
    assert store.used_bytes() <= 2**20
    size = store.file.stat().st_size
    for start in range(1000, 4000, 100):
        store.write(
            [
                replace(decided(str(start + number), at=float(start), prompt="x" * 4000))
                for number in range(100)
            ],
            text=True,
        )
        store.trim(oldest=0.0, max_bytes=2**20)
    assert store.file.stat().st_size <= size


def test_another_process_may_read_and_forget_while_it_is_written(store: FeedbackStore) -> None:
    other = FeedbackStore.open(store.file, create=False)
    store.write([decided("1")], text=True)
    reading = other.kept()
    assert next(reading).prompt == "hello"
    store.write([decided("2")], text=True)
    assert list(reading) == []
    assert other.forget_all() == 2
    assert kept(store) == []
    assert other.client_of("key a") == store.client_of("key a") != store.client_of("key b")
    other.close()


def test_clients_are_hashed_otherwise_in_each_file(store: FeedbackStore, tmp_path: Path) -> None:
    other = FeedbackStore.open(tmp_path / "other.sqlite", create=True)
    assert other.client_of("key a") != store.client_of("key a")
    other.close()


def version_2(file: Path) -> None:
    FeedbackStore.open(file, create=True).close()
    sqlite3.connect(file).executescript("PRAGMA user_version = 2").connection.close()


def another_programs(file: Path) -> None:
    sqlite3.connect(file).executescript("CREATE TABLE cookies (x)").connection.close()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            version_2,
            "has version 2, which a newer program wrote; this one reads up to 1: install the newer one",
        ),
        (another_programs, "holds something else; name another as feedback.file"),
        (lambda file: file.write_text("no database, but some text" * 100), "is damaged or no SQLite file"),
        (lambda file: file.mkdir(), "cannot be written: Is a directory"),
        (lambda file: None, "does not exist: nothing has been kept there"),
    ],
)
def test_a_file_that_is_none_of_ours_is_refused(tmp_path: Path, make: "object", says: str) -> None:
    file = tmp_path / "file"
    assert callable(make)
    make(file)
    with pytest.raises(DatabaseError, match="^" + str(file)) as caught:
        FeedbackStore.open(file, create=False)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("score", "correction", "uncertain", "category"),
    [
        (1.0, None, False, "law"),
        (0.5, None, False, None),
        (None, None, False, None),
        (1.0, None, True, None),
        (1.0, "math", True, "math"),
        (None, "math", False, "math"),
    ],
)
def test_a_category_is_the_clients_or_one_that_a_good_score_confirms(
    score: float | None, correction: str | None, uncertain: bool, category: str | None
) -> None:
    row = Kept("n", 1.0, "coe", "law", uncertain, "lawyer", "law", "hello", b"", "200", score, correction)
    example = example_of(row)
    assert example is not None
    assert (example.id, example.prompt, example.category) == ("feedback/n", "hello", category)
    assert example.scores == ({} if score is None else {"lawyer": score})
