"""Batches that a process left in the middle: killed, expired, cancelled, with a torn line in a file."""

import asyncio
import contextlib
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import yaml

from server.access.owner import owner_of
from server.batches.archive import Archive
from server.batches.records import BatchRecord, FileRecord, Status
from server.config.api_keys import ANONYMOUS, Key
from server.config.settings import Settings, SettingsError
from server.storage.errors import DatabaseError
from tests.server.batches.batch_client import (
    client_of,
    ended,
    jsonl,
    lines_of,
    request,
    submitted,
    text_of,
    with_batches,
)
from tests.server.conftest import ROOT, Serving, simulated, until

REQUESTS, AT_ONCE = 60, 4
OWNER = owner_of(Key(ANONYMOUS), {"authorization": "Bearer none"})


@contextlib.asynccontextmanager
async def process(config: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A gateway of its own and its address; killed at the end."""
    command = [sys.executable, "-m", "server.cli", "serve", "--config", str(config)]
    gateway = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        assert gateway.stdout is not None
        found = re.search(rb"http://\S+:\d+", await gateway.stdout.readline())
        assert found is not None
        while not (await gateway.stdout.readline()).startswith(b"Ready"):
            pass
        yield gateway, found[0].decode()
    finally:
        if gateway.returncode is None:
            gateway.kill()
        assert gateway.stdout is not None
        await gateway.stdout.read()  # to its end: what is not read keeps the pipe open
        await gateway.wait()


async def test_a_killed_gateway_loses_no_answer_and_repeats_only_those_under_way(
    settings: Settings, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    tree = yaml.safe_load(config.read_text())
    tree["batches"] = {"folder": "batches", "concurrency": AT_ONCE}
    tree["families"]["small"]["simulation"]["tokens_per_s"] = 60
    config.write_text(yaml.safe_dump(tree))
    requests = [request(str(number), ("law", "math")[number % 2]) for number in range(REQUESTS)]

    async with process(config) as (gateway, url), client_of(url) as client:
        id = (await submitted(client, requests)).id
        while True:
            counts = (await client.batches.retrieve(id)).request_counts
            assert counts is not None
            if counts.completed >= REQUESTS // 4:
                break
        gateway.send_signal(signal.SIGKILL)
        await gateway.wait()
    (output,) = (
        file for file in (tmp_path / "batches" / "contents").iterdir() if b"batch_req_" in file.read_bytes()
    )
    finished = output.read_bytes()
    assert REQUESTS // 4 <= finished.count(b"\n") < REQUESTS
    output.write_bytes(finished + b'{"id": "batch_req_torn by a power cut, too')

    async with process(config) as (_, url), client_of(url) as client, httpx.AsyncClient() as http:
        batch = await ended(client, id)
        answered = await text_of(client, batch.output_file_id)
        run_again = answered_by(await http.get(f"{url}/metrics"))
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert batch.request_counts.model_dump() == {"total": REQUESTS, "completed": REQUESTS, "failed": 0}
    assert answered.startswith(finished.decode())
    assert lines_of(answered).keys() == {each["custom_id"] for each in requests}
    assert batch.usage is not None
    assert batch.usage.output_tokens == 3 * REQUESTS
    assert run_again == REQUESTS - finished.count(b"\n")


def answered_by(metrics: httpx.Response) -> float:
    """Requests this process has answered."""
    return sum(
        float(line.rpartition(" ")[2])
        for line in metrics.text.splitlines()
        if line.startswith("coe_requests_total{")
    )


async def test_a_gateway_that_ends_leaves_a_batch_to_the_next(
    settings: Settings, serving: Serving, tmp_path: Path
) -> None:
    batched = with_batches(settings, tmp_path)
    async with serving(simulated(batched, tokens_per_s=0.1)) as gateway, client_of(gateway.url) as client:
        id = (await submitted(client, [request("a"), request("b", "math")])).id
        await until(lambda: gateway.engine.running > 0)
    assert gateway.services.tiers.counts().leases == 0
    async with serving(batched) as gateway, client_of(gateway.url) as client:
        batch = await ended(client, id)
    assert batch.status == "completed"
    assert batch.error_file_id is None


def left_behind(
    settings: Settings, status: Status, *, age_s: int = 0, answered: bytes = b"", lines: int = 3
) -> BatchRecord:
    """A batch as an earlier process left it."""
    assert settings.batches is not None
    now = int(time.time())
    record = BatchRecord(
        id="batch_left",
        owner=OWNER,
        key=ANONYMOUS,
        endpoint="/v1/chat/completions",
        input_file_id="file-in",
        created_at=now - age_s,
        expires_at=now - age_s + 86_400,
        answers_id="file-answers",
        failures_id="file-failures",
        keep_answers_s=3600,
        status=status,
        in_progress_at=now - age_s,
    )
    contents = jsonl(request(str(number)) for number in range(lines))
    archive = Archive(settings.batches)
    archive.store.add_file(
        FileRecord("file-in", OWNER, "in.jsonl", "batch", len(contents), now - age_s, now + 86_400), 9
    )
    archive.spool.path("file-in").write_bytes(contents)
    archive.spool.path("file-answers").write_bytes(answered)
    archive.store.add_batch(record, 1, 9)
    archive.close()
    return record


ANSWERED = (
    b'{"id":"batch_req_1","custom_id":"1","response":{"status_code":200,"request_id":"r",'
    b'"body":{"usage":{"prompt_tokens":5,"completion_tokens":7}}},"error":null}\n'
)


@pytest.mark.parametrize(
    ("status", "age_s", "outcome", "why"),
    [
        ("in_progress", 0, "completed", None),
        ("validating", 0, "completed", None),
        ("finalizing", 90_000, "expired", "batch_expired"),
        ("in_progress", 90_000, "expired", "batch_expired"),
        ("cancelling", 0, "cancelled", "batch_cancelled"),
    ],
)
async def test_a_batch_goes_on_to_its_end_after_a_restart(
    settings: Settings,
    serving: Serving,
    tmp_path: Path,
    status: Status,
    age_s: int,
    outcome: str,
    why: str | None,
) -> None:
    batched = with_batches(settings, tmp_path)
    left_behind(batched, status, age_s=age_s, answered=ANSWERED)
    async with serving(batched) as gateway, client_of(gateway.url) as client:
        batch = await ended(client, "batch_left")
        answered = lines_of(await text_of(client, batch.output_file_id))
        failed = lines_of(await text_of(client, batch.error_file_id)) if why else {}
    assert batch.status == outcome
    assert answered["1"]["id"] == "batch_req_1"
    assert answered.keys() | failed.keys() == {"0", "1", "2"}
    assert len(answered) == (1 if why else 3)
    assert {line["error"]["code"] for line in failed.values()} == ({why} if why else set())
    assert batch.usage is not None
    assert batch.usage.input_tokens >= 5


async def test_a_batch_that_may_not_go_on_keeps_what_was_answered(
    settings: Settings, serving: Serving, tmp_path: Path
) -> None:
    """Fewer requests are taken than when it was begun."""
    batched = with_batches(settings, tmp_path, max_requests=2)
    left_behind(batched, "in_progress", answered=ANSWERED)
    async with serving(batched) as gateway, client_of(gateway.url) as client:
        batch = await ended(client, "batch_left")
        answered = lines_of(await text_of(client, batch.output_file_id))
    assert batch.status == "failed"
    assert answered.keys() == {"1"}


async def test_what_has_expired_is_deleted_but_for_what_a_batch_reads(
    settings: Settings, serving: Serving, tmp_path: Path
) -> None:
    batched = with_batches(settings, tmp_path)
    assert batched.batches is not None
    left_behind(batched, "in_progress")
    archive = Archive(batched.batches)
    old = FileRecord("file-old", OWNER, "old.jsonl", "batch", 2, 0, 1)
    archive.store.add_file(old, 9)
    archive.spool.path("file-old").write_bytes(b"{}")
    archive.store.change(OWNER, "batch_left", lambda record: replace(record, created_at=0))
    assert archive.store.forget(int(time.time()) + 10**9, 0) == ["file-old"]
    archive.store.change(OWNER, "batch_left", lambda record: record.ended(int(time.time()), "cancelled"))
    assert archive.store.forget(int(time.time()) + 10**9, 0) == ["file-in"]
    assert len(archive.store.forget(0, int(time.time()) + 10)) == 0
    archive.close()
    async with serving(batched) as gateway:
        assert (await gateway.http.get("/v1/batches")).json()["data"] == []
    assert [*(tmp_path / "batches" / "contents").iterdir()] == []


async def test_one_gateway_at_a_time_uses_a_folder(
    settings: Settings, serving: Serving, tmp_path: Path
) -> None:
    batched = with_batches(settings, tmp_path)
    assert batched.batches is not None
    async with serving(batched):
        with pytest.raises(SettingsError, match="another gateway uses"):
            Archive(batched.batches)


def test_a_folder_that_cannot_be_made_is_said(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    config = with_batches(settings, tmp_path / "file").batches
    assert config is not None
    with pytest.raises(SettingsError, match=r"batches\.folder"):
        Archive(config)


def test_another_programs_file_is_left_alone(settings: Settings, tmp_path: Path) -> None:
    config = with_batches(settings, tmp_path).batches
    assert config is not None
    config.folder.mkdir()
    (config.folder / "batches.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(DatabaseError, match="no SQLite file"):
        Archive(config)
    assert (config.folder / "batches.sqlite").read_bytes() == b"no database" * 100
