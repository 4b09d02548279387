"""The tables of the feedback loop's SQLite file, and whether a file has them."""

import secrets
import sqlite3
from pathlib import Path

from server.feedback_errors import FeedbackUnreadable

APPLICATION_ID = 0x436F4546  # CoEF
VERSION = 1
_SCHEMA = (
    "CREATE TABLE salt (value BLOB NOT NULL)",
    """CREATE TABLE decisions (
        id TEXT NOT NULL,          -- of the request, as x-request-id says it
        client BLOB NOT NULL,      -- keyed hash of the API key it came with
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
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {VERSION}",
)


def prepare(database: sqlite3.Connection, file: Path) -> None:
    """Makes the tables of a new file. Raises FeedbackUnreadable."""
    _check(database, file)
    database.execute("PRAGMA secure_delete = ON")
    database.execute("PRAGMA synchronous = NORMAL")  # a power cut may cost the last seconds, never the file
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("BEGIN IMMEDIATE")
    if not _tables(database):
        for statement in _SCHEMA:
            database.execute(statement)
        database.execute("INSERT INTO salt VALUES (?)", (secrets.token_bytes(32),))
    database.execute("COMMIT")


def _check(database: sqlite3.Connection, file: Path) -> None:
    if not _tables(database):
        return
    ((application,),) = database.execute("PRAGMA application_id")
    ((version,),) = database.execute("PRAGMA user_version")
    if application != APPLICATION_ID:
        raise FeedbackUnreadable(f"{file} is another program's SQLite file; name another as feedback.file")
    if version != VERSION:
        raise FeedbackUnreadable(
            f"{file} has version {version}, and this program reads {VERSION}; export it with the program "
            "that wrote it, or name another file as feedback.file"
        )


def _tables(database: sqlite3.Connection) -> int:
    ((count,),) = database.execute("SELECT count(*) FROM sqlite_schema")
    return int(count)
