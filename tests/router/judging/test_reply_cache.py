import sqlite3
from pathlib import Path

import pytest

from router.clients.chat_client import Ask, Reply
from router.errors import JudgingError
from router.judging.reply_cache import KeptChat, ReplyFile

ASK = Ask("expert", "hello", 5)


class Echo:
    def __init__(self) -> None:
        self.asked: list[Ask] = []

    async def reply(self, ask: Ask) -> Reply:
        self.asked.append(ask)
        return Reply(f"{ask.model} says {ask.prompt}", cut=False, tokens_in=2, tokens_out=4)


async def test_the_same_content_is_asked_once_also_after_a_restart(tmp_path: Path) -> None:
    echo = Echo()
    for _ in range(2):
        with ReplyFile(tmp_path / "replies") as replies:
            kept = KeptChat(echo, replies)
            assert [(await kept.reply(ASK)).text for _ in range(2)] == ["expert says hello"] * 2
            assert repr(replies).endswith("replies: 1 replies>")
    assert echo.asked == [ASK]
    assert (kept.calls, kept.tokens_in, kept.tokens_out) == (0, 0, 0)


async def test_other_content_is_asked_anew(tmp_path: Path) -> None:
    echo = Echo()
    others = [
        Ask("other", "hello", 5),
        Ask("expert", "bye", 5),
        Ask("expert", "hello", 6),
        Ask("expert", "hello", 5, "s"),
    ]
    with ReplyFile(tmp_path / "replies") as replies:
        kept = KeptChat(echo, replies)
        for ask in (ASK, *others):
            await kept.reply(ask)
        assert len(replies) == 5
    assert (kept.calls, kept.tokens_in, kept.tokens_out) == (5, 10, 20)


def test_two_runs_cannot_have_one_file(tmp_path: Path) -> None:
    with (
        ReplyFile(tmp_path / "replies"),
        pytest.raises(JudgingError, match="replies, which keeps the replies, cannot be used: another run"),
    ):
        ReplyFile(tmp_path / "replies")
    with ReplyFile(tmp_path / "replies"):
        pass


def test_a_file_that_is_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "replies"
    file.write_text("my notes, which are long enough not to be an empty database")
    with pytest.raises(JudgingError, match="not a database"):
        ReplyFile(file)
    assert file.read_text().startswith("my notes")
    with pytest.raises(JudgingError, match="cannot be used"):
        ReplyFile(tmp_path / "nowhere" / "replies")


def test_a_reply_that_cannot_be_kept_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "replies"
    with ReplyFile(file) as replies:
        replies._database.execute("PRAGMA max_page_count = 3")
        with pytest.raises(JudgingError, match=r"replies cannot be written: .*full"):
            replies.put(ASK, Reply("word " * 10_000, cut=False, tokens_in=0, tokens_out=0))
    assert sqlite3.connect(file).execute("SELECT count(*) FROM replies").fetchone() == (0,)
