"""Marks and checks the version of an SQLite file that keeps what a run would ask for or compute again."""

import sqlite3
from dataclasses import dataclass


class NotThisFile(Exception):
    """The file is another program's, or a newer version's; the message says which."""


@dataclass(frozen=True, slots=True)
class Table:
    """The one table of such a file. ``version``: of its columns. ``added``: column that the last version
    added to the one before; empty: there is one version."""

    application_id: int
    version: int
    name: str
    columns: str
    added: str = ""

    def claim(self, database: sqlite3.Connection) -> None:
        """Makes the table in a new file and marks the file; one that has the table and no mark yet, as before
        there were marks, gets it. Inside a transaction. Raises NotThisFile."""
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        ((application,),) = database.execute("PRAGMA application_id")
        ((version,),) = database.execute("PRAGMA user_version")
        if application != self.application_id and (application or tables - {self.name}):
            raise NotThisFile("it holds something else")
        if version > self.version:
            raise NotThisFile(
                f"it has version {version}, which a newer program wrote, and this one reads {self.version}"
            )
        columns = {row[1] for row in database.execute(f"PRAGMA table_info({self.name})")}
        if self.added and self.name in tables and self.added.partition(" ")[0] not in columns:
            database.execute(f"ALTER TABLE {self.name} ADD COLUMN {self.added}")
        database.execute(f"CREATE TABLE IF NOT EXISTS {self.name} ({self.columns})")
        database.execute(f"PRAGMA application_id = {self.application_id}")
        database.execute(f"PRAGMA user_version = {self.version}")
