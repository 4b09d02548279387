"""A disk fails under SQLite files, uploads and checkpoints of a gateway that serves: no answer is cut."""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from server.config.settings import Settings
from tests.server.conftest import ROOT, chat

pytestmark = pytest.mark.asyncio
OPERATOR = "an-operators-key"


@pytest.fixture(scope="session")
def failing_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that lets calls fail, compiled."""
    library = tmp_path_factory.mktemp("failing-disk") / "failing_disk.so"
    source = Path(__file__).with_name("failing_disk.c")
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", str(source), "-o", str(library), "-ldl"], check=True)
    return library


@dataclass(frozen=True, slots=True)
class Served:
    """A gateway in a process of its own, on a disk that fails where ``orders`` says."""

    http: httpx.AsyncClient
    orders: Path
    log: Path

    def fail(self, kind: str, part: str) -> None:
        """From now on each ``kind`` of call, read or write, fails on files with ``part`` in their path."""
        beside = self.orders.with_suffix(".new")
        beside.write_text(f"{kind} {part}")
        beside.rename(self.orders)

    def mend(self) -> None:
        self.orders.unlink()

    async def ask(self, expert: str = "law") -> httpx.Response:
        return await self.http.post("/v1/chat/completions", json=chat(model=expert))

    async def respond(self, text: str = "hello") -> dict[str, Any]:
        answer = await self.http.post("/v1/responses", json={"model": "law", "input": text})
        assert answer.status_code == 200, answer.text
        made: dict[str, Any] = answer.json()
        assert made["status"] == "completed"
        return made

    async def logged(self, words: str) -> None:
        async with asyncio.timeout(60):
            while words not in self.log.read_text():  # noqa: ASYNC110  another process writes it
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def served(settings: Settings, folder: Path, library: Path) -> AsyncIterator[Served]:
    config, log, orders = folder / "config.yaml", folder / "gateway.log", folder / "orders"
    tree = yaml.safe_load(config.read_text())
    tree["accounts"] = {"file": str(folder / "accounts.sqlite")}
    tree["responses"] = {"file": str(folder / "responses.sqlite")}
    tree["server"]["admin_key"] = OPERATOR
    tree["batches"] = {"folder": str(folder / "batches")}
    config.write_text(yaml.safe_dump(tree, sort_keys=False))
    environment = {"PYTHONPATH": str(ROOT), "LD_PRELOAD": str(library), "COE_FAILING_DISK": str(orders)}
    command = [sys.executable, "-m", "server.cli", "serve", "--config", str(config)]
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, env=os.environ | environment, stdout=asyncio.subprocess.PIPE, stderr=errors
        )
    try:
        assert process.stdout is not None
        found = re.search(rb"http://\S+:\d+", await process.stdout.readline())
        assert found is not None, log.read_text()
        while not (await process.stdout.readline()).startswith(b"Ready"):
            pass
        async with httpx.AsyncClient(base_url=found[0].decode(), timeout=60) as http:
            yield Served(http, orders, log)
        process.terminate()
        assert await process.wait() == 0, log.read_text()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_databases_that_cannot_be_written_fail_no_answer_and_lose_no_usage(
    settings: Settings, tmp_path: Path, failing_disk: Path
) -> None:
    async with served(settings, tmp_path, failing_disk) as gateway:
        before = await gateway.respond()
        gateway.fail("write", ".sqlite")
        assert (await gateway.ask()).status_code == 200
        await gateway.logged("usage waits in memory until it can be written")
        assert (await gateway.respond())["store"] is False
        assert (await gateway.http.get("/health")).status_code == 200
        gateway.mend()
        after = await gateway.respond()
        assert after["store"] is True
        for id in (before["id"], after["id"]):
            assert (await gateway.http.get(f"/v1/responses/{id}")).status_code == 200
        as_operator = {"authorization": f"Bearer {OPERATOR}"}
        used = (await gateway.http.get("/v1/coe/usage", headers=as_operator)).json()
        assert sum(row["requests"] for row in used["rows"]) == 4, used


async def test_an_upload_that_cannot_be_written_is_refused_and_the_next_is_kept(
    settings: Settings, tmp_path: Path, failing_disk: Path
) -> None:
    async with served(settings, tmp_path, failing_disk) as gateway:

        async def upload() -> httpx.Response:
            files = {"file": ("in.jsonl", b"x" * 2**17)}
            return await gateway.http.post("/v1/files", data={"purpose": "batch"}, files=files)

        gateway.fail("write", "/batches/")
        refused = await upload()
        assert refused.status_code in (413, 500, 503), refused.text
        assert (await gateway.ask()).status_code == 200
        gateway.mend()
        assert (await upload()).status_code == 200
        assert len((await gateway.http.get("/v1/files")).json()["data"]) == 1


async def test_a_checkpoint_that_cannot_be_read_is_a_failed_load_and_the_others_serve(
    settings: Settings, tmp_path: Path, failing_disk: Path
) -> None:
    async with served(settings, tmp_path, failing_disk) as gateway:
        assert (await gateway.ask("general")).status_code == 200
        gateway.fail("read", "model.safetensors")  # of all experts; the first is on the device
        refused = await gateway.ask("coding")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "load_failed")
        await gateway.logged("cannot be read: Input/output error")
        assert (await gateway.ask("general")).status_code == 200
        gateway.mend()
        assert (await gateway.ask("coding")).status_code == 200
