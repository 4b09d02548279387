"""``coe top``, ``coe logs`` and ``coe explain`` beside a running gateway, over a real socket."""

import asyncio
import os
import pty
import re
import signal
import sys

import httpx
import pytest

from server.cli.main import main
from server.config.settings import Settings
from tests.server.conftest import Gateway, Serving, chat, simulated, until

Captured = pytest.CaptureFixture[str]


async def coe(url: str, *arguments: str) -> int:
    return await asyncio.to_thread(main, [*arguments, "--url", url])


async def routed(gateway: Gateway) -> httpx.Response:
    answer = await gateway.post(model="coe", messages=[{"role": "user", "content": "What is 2 + 2?"}])
    assert answer.status_code == 200
    return answer


async def test_top_shows_tiers_engines_experts_and_requests(
    serving: Serving, settings: Settings, capsys: Captured
) -> None:
    async with serving(simulated(settings, load_bytes_per_s=1)) as gateway:
        ended = await gateway.post(model="general")
        waiting = asyncio.create_task(gateway.post(model="law"))
        await until(lambda: any(move.target == "device" for move in gateway.services.tiers.progress()))
        assert await coe(gateway.url, "top", "--once") == 0
        shown = capsys.readouterr().out
        waiting.cancel()
        await asyncio.wait([waiting])
    for words in ("ready", "device", "small", "general", "law", "loading", "ticket", "waiting"):
        assert words in shown
    assert ended.headers["x-request-id"] in shown


async def test_top_fills_the_screen_of_a_terminal_until_it_is_interrupted(
    serving: Serving, settings: Settings
) -> None:
    async with serving(settings) as gateway:
        for _ in range(60):
            await gateway.post(model="general", max_tokens=1)
        ours, theirs = pty.openpty()
        os.environ["COLUMNS"], os.environ["LINES"] = "100", "30"
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "server.cli", "top", "--url", gateway.url, "--interval", "0.1"),
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job ignores it
            )
        finally:
            del os.environ["COLUMNS"], os.environ["LINES"]
            os.close(theirs)
        said = b""

        def read() -> bool:
            nonlocal said
            said += os.read(ours, 65536)
            return said.count(b"coe 0.") >= 2

        await asyncio.to_thread(lambda: [None for _ in iter(read, True)])
        process.send_signal(signal.SIGINT)
        reader = asyncio.create_task(asyncio.to_thread(drained, ours))
        assert await process.wait() == 0
        await reader
        os.close(ours)
    assert b"tokens/s" in said


def drained(ours: int) -> None:
    try:
        while os.read(ours, 65536):
            pass
    except OSError:
        pass  # the terminal's other end is closed


async def test_explain_tells_why_an_expert_was_chosen_and_what_took_the_time(
    serving: Serving, settings: Settings, capsys: Captured, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "coe")
    async with serving(settings) as gateway:
        answer = await routed(gateway)
        id, expert = answer.headers["x-request-id"], answer.headers["x-coe-expert"]
        assert await coe(gateway.url, "explain", id) == 0
        told = " ".join(capsys.readouterr().out.split())
        assert await coe(gateway.url, "explain", "nobody") == 1
        refused = capsys.readouterr().err
    assert f"{id}: ended with 200" in told
    assert f"asked for coe; {expert} was chosen by" in told
    assert f"category {answer.headers['x-coe-category']} with confidence" in told
    for phase in ("admit", "route", "wait", "decode"):
        assert f" {phase} " in told
    took = re.search(r"the lease took ([0-9.]+) s", told)
    assert took is not None
    # Both are rounded.
    assert float(took[1]) == pytest.approx(float(answer.headers["x-coe-queue-ms"]) / 1e3, abs=0.0011)
    assert f"{id} model='coe'" in told  # its line of the log
    assert refused.startswith("coe: No request with this id")
    assert len(refused.splitlines()) == 1


async def test_logs_are_of_the_gateway_and_its_engines_by_level(
    serving: Serving, settings: Settings, capsys: Captured, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "coe")
    settings.logs.mkdir(parents=True)
    (settings.logs / "small.log").write_text("INFO fine\nERROR of an engine that died\n")
    async with serving(settings) as gateway:
        answer = await gateway.post(model="general")
        assert await coe(gateway.url, "logs") == 0
        everything = capsys.readouterr().out
        assert await coe(gateway.url, "logs", "small", "--level", "error") == 0
        errors = capsys.readouterr().out
        assert await coe(gateway.url, "logs", "nobody") == 1
        assert "there are logs of gateway, small" in capsys.readouterr().err
    assert f"{answer.headers['x-request-id']} model='general'" in everything
    assert "small: ERROR of an engine that died" in everything
    assert errors == "ERROR of an engine that died\n"


async def test_followed_logs_go_on_with_what_comes(
    serving: Serving, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "coe")
    async with serving(settings) as gateway:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-u", "-m", "server.cli", "logs", "gateway", "-f", "--url", gateway.url),
            stdout=asyncio.subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job ignores it
        )
        assert process.stdout is not None
        await process.stdout.readline()  # it has begun
        id = (await gateway.post(model="general")).headers["x-request-id"]
        async with asyncio.timeout(30):
            while id.encode() not in (line := await process.stdout.readline()):
                assert line, "it goes on"
        process.send_signal(signal.SIGINT)
        await process.stdout.read()
        assert await process.wait() == 0


async def test_a_stream_under_way_is_told_too(serving: Serving, settings: Settings, capsys: Captured) -> None:
    async with serving(simulated(settings, tokens_per_s=5)) as gateway:
        body = chat(model="general", stream=True)
        async with gateway.http.stream("POST", "/v1/chat/completions", json=body) as answer:
            chunks = answer.aiter_bytes()
            await anext(chunks)
            assert await coe(gateway.url, "explain", answer.headers["x-request-id"]) == 0
    assert ": decoding after" in capsys.readouterr().out
