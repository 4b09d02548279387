"""Files that keep what would be computed again: from before there were versions, and newer ones."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from router.clients.chat_client import Ask, Reply
from router.embedders.cache import EmbeddingCache
from router.errors import EmbedderError, JudgingError, RouterError
from router.judging.reply_cache import ReplyFile
from tests.router.hashed_words import HashedWords

ASK, REPLY = Ask("expert", "hello", 5), Reply("hello yourself", cut=False, tokens_in=2, tokens_out=4)


def replies(file: Path) -> None:
    with ReplyFile(file) as kept:
        assert kept.get(ASK) == REPLY


def vectors(file: Path) -> None:
    with closing(EmbeddingCache(HashedWords(), file)) as cache:
        assert "1 texts" in repr(cache)


def make_replies(file: Path) -> None:
    with ReplyFile(file) as kept:
        kept.put(ASK, REPLY)


def make_vectors(file: Path) -> None:
    with closing(EmbeddingCache(HashedWords(), file)) as cache:
        cache.embed(["hello"])


KINDS = pytest.mark.parametrize(
    ("make", "look", "error"),
    [(make_replies, replies, JudgingError), (make_vectors, vectors, EmbedderError)],
    ids=["replies", "vectors"],
)
Step = Callable[[Path], None]


def mark(file: Path, application_id: int, version: int) -> None:
    with closing(sqlite3.connect(file)) as database:
        database.execute(f"PRAGMA application_id = {application_id}")
        database.execute(f"PRAGMA user_version = {version}")


def marks(file: Path) -> tuple[int, int]:
    with closing(sqlite3.connect(file)) as database:
        ((application_id,),) = database.execute("PRAGMA application_id")
        ((version,),) = database.execute("PRAGMA user_version")
        return application_id, version


@KINDS
def test_a_file_from_before_there_were_versions_is_taken_over(
    tmp_path: Path, make: Step, look: Step, error: type[RouterError]
) -> None:
    file = tmp_path / "kept"
    make(file)
    made = marks(file)
    mark(file, 0, 0)
    look(file)
    assert marks(file) == made
    assert made[1] in (1, 2)


@KINDS
def test_a_newer_file_and_another_programs_are_refused_in_one_line(
    tmp_path: Path, make: Step, look: Step, error: type[RouterError]
) -> None:
    file = tmp_path / "kept"
    make(file)
    application_id, version = marks(file)
    mark(file, application_id, version + 1)
    said = f"it has version {version + 1}, which a newer program wrote, and this one reads {version}"
    with pytest.raises(error, match=said):
        look(file)
    assert marks(file) == (application_id, version + 1)

    mark(file, 7, 1)
    with pytest.raises(error, match="it holds something else"):
        look(file)
    other = tmp_path / "other"
    with closing(sqlite3.connect(other)) as database:
        database.execute("CREATE TABLE cookies (x)")
    before = other.read_bytes()
    with pytest.raises(error, match="it holds something else") as caught:
        look(other)
    assert "\n" not in str(caught.value)
    assert other.read_bytes() == before
