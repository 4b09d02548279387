"""The verbs of ``coe tiers`` that ask a running gateway, over a real socket."""

import asyncio
import contextlib
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from pydantic import SecretStr

from server.cli.main import main
from server.config.settings import Settings
from server.operator_api import Snapshot
from tests.server.conftest import ROOT, Gateway, Serving, changed, chat, settled, simulated, until
from tests.server.routes.test_admin import damage, status

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COE_URL", "COE_ADMIN_KEY", "COE_CONFIG"):
        monkeypatch.delenv(name, raising=False)


async def coe(url: str, *arguments: str) -> int:
    """``coe tiers ...`` beside the gateway's event loop."""
    return await asyncio.to_thread(main, ["tiers", *arguments, "--url", url])


async def test_the_status_shows_tiers_engines_experts_and_moves(
    serving: Serving, settings: Settings, capsys: Captured
) -> None:
    async with serving(simulated(settings, load_bytes_per_s=1)) as gateway:
        waiting = asyncio.create_task(gateway.post(model="law"))
        await until(lambda: status(gateway, "law").device == "arriving")
        assert await coe(gateway.url, "status") == 0
        shown = capsys.readouterr().out
        for words in ("2.5 kB", "small", "ready", "general", "loading", "ticket"):
            assert words in shown
        waiting.cancel()
        await asyncio.wait([waiting])


async def test_the_status_is_printed_as_json(serving: Serving, settings: Settings, capsys: Captured) -> None:
    async with serving(settings) as gateway:
        assert await coe(gateway.url, "status", "--json") == 0
        printed = Snapshot.model_validate_json(capsys.readouterr().out)
        assert printed.experts == gateway.services.tiers.status()


async def test_each_order_returns_when_it_is_carried_out(
    serving: Serving, settings: Settings, capsys: Captured
) -> None:
    async with serving(settings) as gateway:
        for arguments, says in (
            ("load law", "law is on device"),
            ("demote law", "law is on host"),
            ("demote law --to disk", "law is on disk"),
            ("move law host", "law is on host"),
            ("pin law", "law is on device, pinned"),
            ("unpin law", "law is on device"),
            ("move law disk", "law is on disk"),
        ):
            assert await coe(gateway.url, *arguments.split()) == 0
            assert capsys.readouterr().out == f"{says}\n"
            assert status(gateway, "law").tier == says.removesuffix(", pinned").split()[-1]


async def test_an_order_shows_what_it_waits_for(
    serving: Serving, settings: Settings, capsys: Captured
) -> None:
    async with serving(simulated(settings, tokens_per_s=5)) as gateway:
        body = chat(model="general", stream=True)
        async with gateway.http.stream("POST", "/v1/chat/completions", json=body) as answer:
            chunks = answer.aiter_bytes()
            await anext(chunks)
            demoting = asyncio.create_task(coe(gateway.url, "demote", "general"))
            printed = ""

            def says(words: str) -> bool:
                nonlocal printed
                printed += capsys.readouterr().err
                return words in printed

            await until(lambda: says("general: answers under way: 1"))
        assert await demoting == 0


async def test_an_order_need_not_be_waited_for(
    serving: Serving, settings: Settings, capsys: Captured
) -> None:
    async with serving(simulated(settings, load_bytes_per_s=1)) as gateway:
        assert await coe(gateway.url, "load", "law", "--no-wait") == 0
        assert status(gateway, "law").ordered == "device"
        assert capsys.readouterr().out == "law: ordered; it is on disk now\n"


async def test_a_load_that_fails_is_one_line_and_exit_status_1(
    serving: Serving, settings: Settings, capsys: Captured
) -> None:
    async with serving(settings) as gateway:
        damage(settings.store / "law")
        assert await coe(gateway.url, "load", "law") == 1
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith("coe: expert law could not be loaded: law: ")
        assert "no config.json" in last


async def test_a_load_that_another_operator_cancels_is_one_line_and_exit_status_1(
    serving: Serving, settings: Settings, capsys: Captured
) -> None:
    async with serving(simulated(settings, load_bytes_per_s=250)) as gateway:
        loading = asyncio.create_task(coe(gateway.url, "load", "law"))
        await until(lambda: status(gateway, "law").device == "arriving")
        assert await coe(gateway.url, "cancel", "law") == 0
        assert await loading == 1
        captured = capsys.readouterr()
        assert captured.out == "law is on host\n"
        cancelled = "its load was cancelled, or it has left again"
        assert captured.err.splitlines()[-1].endswith(cancelled)
        await settled(gateway)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("demote general", "expert general is pinned to the device: unpin it first"),
        ("pin law", "over tiers.device of 2,500 bytes"),
        ("cancel law", "expert law is not being loaded"),
        ("load lwa", "There is no expert 'lwa'. Did you mean 'law'?"),
        (
            "load a/../b?c#d",
            "There is no expert 'a/../b?c#d'. Experts: general, math, coding, medicine, law.",
        ),
    ],
)
async def test_what_is_refused_is_one_line_and_exit_status_1(
    serving: Serving, settings: Settings, capsys: Captured, arguments: str, says: str
) -> None:
    async with serving(settings) as gateway:
        gateway.services.tiers.orders.pin("general", True)
        assert await coe(gateway.url, *arguments.split()) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert says in line


async def test_the_key_comes_from_the_environment_or_the_configuration(
    serving: Serving, settings: Settings, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(changed(settings, admin_key=SecretStr("of-ädmins"))) as gateway:
        assert await coe(gateway.url, "status") == 1
        assert "COE_ADMIN_KEY" in capsys.readouterr().err
        config = configured(tmp_path, gateway, admin_key="of-ädmins")
        assert await asyncio.to_thread(main, ["tiers", "status", "--config", str(config)]) == 0
        monkeypatch.setenv("COE_ADMIN_KEY", "of-nobody")
        assert await asyncio.to_thread(main, ["tiers", "status", "--config", str(config)]) == 1
        monkeypatch.setenv("COE_ADMIN_KEY", "of-ädmins")
        monkeypatch.setenv("COE_URL", f"{gateway.url}/")
        assert await asyncio.to_thread(main, ["tiers", "status", "--config", "/nowhere"]) == 0


def configured(folder: Path, gateway: Gateway, **server: str) -> Path:
    """A configuration that says where ``gateway`` listens."""
    tree = yaml.safe_load((folder / "config.yaml").read_text())
    tree["server"] = {"host": "0.0.0.0", "port": int(gateway.url.rpartition(":")[2]), **server}
    file = folder / "running.yaml"
    file.write_text(yaml.safe_dump(tree))
    return file


async def test_a_gateway_that_cannot_be_asked_is_one_line_that_says_what_to_do(
    settings: Settings, tmp_path: Path, capsys: Captured
) -> None:
    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(other, "127.0.0.1", 0) as not_a_gateway:
        url = f"http://127.0.0.1:{not_a_gateway.sockets[0].getsockname()[1]}"
        assert await coe(url, "status") == 1
        assert "is it a gateway of this version?" in capsys.readouterr().err
    assert await coe(url, "load", "law") == 1
    assert capsys.readouterr().err.startswith(f"coe: cannot reach {url}: is `coe serve` running?")
    assert await coe("localhost:8000", "status") == 1
    assert "write it like http://127.0.0.1:8000" in capsys.readouterr().err
    any_port = ["tiers", "status", "--config", str(tmp_path / "config.yaml")]
    assert await asyncio.to_thread(main, any_port) == 1
    assert "give --url" in capsys.readouterr().err


@contextlib.asynccontextmanager
async def watching(gateway: Gateway, stdout: int) -> AsyncIterator[asyncio.subprocess.Process]:
    arguments = ["-m", "server.cli", "tiers", "watch", "--interval", "0.05", "--url", gateway.url]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "120", "LINES": "50"}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        stdout=stdout,
        stdin=asyncio.subprocess.DEVNULL,
        env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in a background job
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_watch_prints_one_table_after_another_where_there_is_no_terminal(
    serving: Serving, settings: Settings
) -> None:
    async with serving(settings) as gateway, watching(gateway, asyncio.subprocess.PIPE) as process:
        assert process.stdout is not None
        seen = b""
        while seen.count(b"general") < 3:
            seen += await process.stdout.readline()
        assert b"\x1b" not in seen
        process.send_signal(signal.SIGINT)
        await process.stdout.read()
        assert await process.wait() == 0


async def test_watch_refreshes_its_table_in_a_terminal_until_it_is_interrupted(
    serving: Serving, settings: Settings
) -> None:
    ours, theirs = pty.openpty()
    async with serving(settings) as gateway, watching(gateway, theirs) as process:
        os.close(theirs)
        seen = ""

        async def shows(words: str) -> None:
            nonlocal seen
            while words not in seen:
                seen += (await asyncio.to_thread(os.read, ours, 65536)).decode(errors="replace")

        await shows("general")
        await gateway.post(model="law")
        seen = ""
        await shows("\x1b[2K")
        await shows("law")
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # how Linux says that the other end is closed
            while await asyncio.to_thread(os.read, ours, 65536):
                pass
        os.close(ours)
        assert await process.wait() == 0
