"""SQLite files that another process holds, and files with damaged pages."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.access.usage import UsageQuery
from server.config.settings import Settings
from server.storage.errors import DatabaseUnreadable
from tests.server.conftest import Gateway, Serving
from tests.server.storage.test_full_disk import kept_in, respond

pytestmark = pytest.mark.asyncio


@contextlib.contextmanager
def held(file: Path) -> Iterator[None]:
    """Holds the file as another process that writes does."""
    with contextlib.closing(sqlite3.connect(file, timeout=30, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


async def used(gateway: Gateway) -> int:
    rows = await gateway.services.accounts.usage(UsageQuery())
    return sum(row.requests for row in rows)


async def test_a_held_database_delays_only_what_it_is_to_keep(
    serving: Serving, settings: Settings, tmp_path: Path
) -> None:
    async with serving(kept_in(tmp_path, settings)) as gateway:
        with held(tmp_path / "accounts.sqlite"), held(tmp_path / "responses.sqlite"):
            kept = asyncio.create_task(respond(gateway))
            for _ in range(3):
                assert (await gateway.post()).status_code == 200
            assert (await gateway.http.get("/health")).status_code == 200
        made = await kept
        assert made["store"] is True
        assert (await gateway.http.get(f"/v1/responses/{made['id']}")).status_code == 200
        assert await used(gateway) == 4


@pytest.mark.parametrize("name", ["accounts.sqlite", "responses.sqlite", "batches/batches.sqlite"])
async def test_a_file_with_damaged_pages_is_named_at_the_start_and_left_alone(
    serving: Serving, settings: Settings, tmp_path: Path, name: str
) -> None:
    kept = kept_in(tmp_path, settings)
    async with serving(kept) as gateway:
        await respond(gateway)
        files = {"file": ("in.jsonl", b"{}")}
        await gateway.http.post("/v1/files", data={"purpose": "batch"}, files=files)
    file = tmp_path / name
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        ((page,),) = database.execute("PRAGMA page_size")
    damaged = bytearray(file.read_bytes())
    damaged[page:] = b"\xff" * (len(damaged) - page)  # all but the page that says what it is
    file.write_bytes(damaged)
    with pytest.raises(DatabaseUnreadable, match=rf"{file} is damaged or no SQLite file"):
        async with serving(kept):
            pass
    assert file.read_bytes() == damaged
