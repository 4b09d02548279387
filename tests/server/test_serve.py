"""The command as a process: what it says, and that a signal at any moment leaves nothing behind."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from server.config.settings import Settings
from server.serve import shown_address
from tests.server.conftest import ROOT

SHARED_MEMORY = Path("/dev/shm")


@asynccontextmanager
async def command(config: Path, *options: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server.cli", "serve", "--config", str(config), "--port", "0", *options),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(60):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def folders(process: asyncio.subprocess.Process) -> list[Path]:
    """Returns the folder of its experts in shared memory."""
    return [*SHARED_MEMORY.glob(f"coe-host-{process.pid}-*")]


@pytest.mark.parametrize(("asked", "budget"), [(signal.SIGTERM, "2500B"), (signal.SIGINT, "auto")])
async def test_a_signal_as_soon_as_the_folder_is_there_leaves_none(
    settings: Settings, tmp_path: Path, asked: signal.Signals, budget: str
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(config.read_text().replace("host: 2500B", f"host: {budget}"))
    async with command(config) as process:
        while not folders(process):
            assert process.returncode is None
            await asyncio.sleep(0)
        process.send_signal(asked)
        _, said = await process.communicate()
        assert process.returncode == 0, said.decode()
        assert b"Traceback" not in said, said.decode()
        assert folders(process) == []


@pytest.mark.parametrize(
    ("host", "shown"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]"), ("::", "[::1]")],
)
def test_an_address_is_shown_as_a_client_writes_it(host: str, shown: str) -> None:
    assert shown_address("http", host, 8000) == f"http://{shown}:8000"


async def test_the_banner_of_a_listener_on_ipv6_has_brackets(settings: Settings, tmp_path: Path) -> None:
    async with command(tmp_path / "config.yaml", "--host", "::1") as process:
        assert process.stdout is not None
        said = b""
        while b"Try:" not in said:
            said += await process.stdout.readline()
        said += await process.stdout.readline()
        process.terminate()
    assert len(re.findall(r"http://\[::1\]:\d+", said.decode())) == 3
