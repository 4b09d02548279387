"""The tables of the feedback loop's SQLite file."""

from server.storage.database import Schema

SCHEMA = Schema(
    setting="feedback.file",
    application_id=0x436F4546,  # CoEF
    version=1,
    tables=(
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
)
