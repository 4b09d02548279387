"""Replies kept on disk by content, so that a run that was interrupted asks for nothing twice."""

import sqlite3
from pathlib import Path
from types import TracebackType
from typing import Self

from router.cache_file import NotThisFile, Table
from router.clients.chat_client import Ask, Chat, Reply
from router.errors import JudgingError

_BEGIN = ("PRAGMA locking_mode = EXCLUSIVE", "BEGIN EXCLUSIVE")
_ONCE_CLAIMED = ("COMMIT", "PRAGMA journal_mode = WAL", "PRAGMA synchronous = NORMAL")
"""Nothing is synced for each reply: a killed process loses none, a power failure the last ones."""
_REPLIES = Table(
    application_id=0x436F4550,  # CoEP
    version=2,
    name="replies",
    columns="key BLOB PRIMARY KEY, text TEXT, cut INTEGER, tokens_in INTEGER, tokens_out INTEGER, "
    "expert TEXT NOT NULL DEFAULT ''",
    added="expert TEXT NOT NULL DEFAULT ''",
)


class ReplyFile:
    """An SQLite file for one run at a time; a reply outlives the process once ``put`` returns."""

    def __init__(self, file: Path) -> None:
        """Raises JudgingError when another run holds the file or it is something else."""
        self._file = file
        try:
            self._database = sqlite3.connect(file, timeout=0, isolation_level=None)
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        try:
            for statement in _BEGIN:
                self._database.execute(statement)
            _REPLIES.claim(self._database)
            for statement in _ONCE_CLAIMED:
                self._database.execute(statement)
        except (sqlite3.Error, NotThisFile) as error:
            self._database.close()
            raise self._unusable(error) from error

    def _unusable(self, error: sqlite3.Error | NotThisFile) -> JudgingError:
        in_use = isinstance(error, sqlite3.Error) and error.sqlite_errorcode == sqlite3.SQLITE_BUSY
        reason = "another run is using it" if in_use else str(error)
        return JudgingError(f"{self._file}, which keeps the replies, cannot be used: {reason}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def get(self, ask: Ask) -> Reply | None:
        query = "SELECT text, cut, tokens_in, tokens_out, expert FROM replies WHERE key = ?"
        row = self._database.execute(query, (ask.key(),)).fetchone()
        return row and Reply(row[0], bool(row[1]), *row[2:])

    def put(self, ask: Ask, reply: Reply) -> None:
        """Raises JudgingError when the disk is full."""
        row = (ask.key(), reply.text, reply.cut, reply.tokens_in, reply.tokens_out, reply.expert)
        try:
            self._database.execute("INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?, ?, ?)", row)
        except sqlite3.Error as error:
            raise JudgingError(f"{self._file} cannot be written: {error}") from error

    def __len__(self) -> int:
        return int(self._database.execute("SELECT count(*) FROM replies").fetchone()[0])

    def __repr__(self) -> str:
        return f"<ReplyFile {self._file}: {len(self)} replies>"


class KeptChat:
    """A Chat over another one that asks it for each content once. Counts what this run asked for."""

    def __init__(self, chat: Chat, replies: ReplyFile) -> None:
        self._chat = chat
        self._replies = replies
        self.calls = 0
        self.tokens_in = 0
        self.tokens_out = 0

    async def reply(self, ask: Ask) -> Reply:
        found = self._replies.get(ask)
        if found is not None:
            return found
        reply = await self._chat.reply(ask)
        self._replies.put(ask, reply)
        self.calls += 1
        self.tokens_in += reply.tokens_in
        self.tokens_out += reply.tokens_out
        return reply

    def __repr__(self) -> str:
        return f"<KeptChat over {self._chat!r}: {self.calls} calls>"
