"""Brings a database to the newest version, in one transaction, and keeps a copy of before."""

import logging
import sqlite3
from pathlib import Path

from server.storage.copies import copy_of, keep_copy
from server.storage.errors import DatabaseUnreadable, DatabaseUnwritable
from server.storage.schema import Schema

log = logging.getLogger("coe.storage")

IN_MEMORY = Path(":memory:")


def migrate(connection: sqlite3.Connection, file: Path, schema: Schema) -> None:
    """Runs the statements of the versions that the file has not seen. Where one fails the file is as it was.
    Raises DatabaseUnreadable, DatabaseUnwritable, sqlite3.Error."""
    if checked_version(connection, file, schema) == schema.newest:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = checked_version(connection, file, schema)  # another process may have come first
        if 0 < version < schema.newest and file != IN_MEMORY:
            _keep(file, version, schema)
        for statements in schema.versions[version:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {schema.application_id}")
        connection.execute(f"PRAGMA user_version = {schema.newest}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def checked_version(connection: sqlite3.Connection, file: Path, schema: Schema) -> int:
    """Returns the version of the file, 0 for one without tables. Raises DatabaseUnreadable for a file of
    another program, or of a newer version of this one."""
    ((tables,),) = connection.execute("SELECT count(*) FROM sqlite_schema")
    if not tables:
        return 0
    ((application,),) = connection.execute("PRAGMA application_id")
    ((version,),) = connection.execute("PRAGMA user_version")
    if application != schema.application_id:
        raise DatabaseUnreadable(f"{file} holds something else; name another as {schema.setting}")
    if version > schema.newest:
        raise DatabaseUnreadable(
            f"{file} has version {version}, which a newer program wrote; this one reads up to "
            f"{schema.newest}: install the newer one, or put a copy of before in its place, such as "
            f"{copy_of(file, schema.newest).name}"
        )
    return int(version)


def _keep(file: Path, version: int, schema: Schema) -> None:
    """Keeps a copy of the file as it is. Raises DatabaseUnwritable."""
    try:
        copy = keep_copy(file, version)
    except OSError as error:
        raise DatabaseUnwritable(
            f"{file} has version {version} and is to become {schema.newest}, but no copy of it can be kept "
            f"beside it: {error.strerror}"
        ) from error
    log.info("%s goes from version %d to %d; the copy of before is %s", file, version, schema.newest, copy)
