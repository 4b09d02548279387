"""Wires between gateway and engine break, slow down, fall silent; a client always learns how it ended."""

import contextlib
import json
import sys
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest

from experts.simulated.process import SimulatedProcess
from experts.spec import Expert, FamilyConfig
from server.config.settings import Settings
from tests.server.conftest import Gateway, Serving, changed, chat, simulated, until

SOON = {"x-coe-timeout-s": "1.2"}
"""The gateway asks an engine again and again; a client that waits no longer is told so."""
PROXY = Path(__file__).with_name("proxy.py")


class SpoiltProcess(SimulatedProcess):
    """An engine behind the proxy."""

    faults: Path

    def _command(self, config: FamilyConfig, expert: Expert, weights: Path) -> list[str]:
        command = super()._command(config, expert, weights)
        proxied = [part.replace("{socket}", "{engine}") for part in command]
        return [sys.executable, str(PROXY), "{socket}", str(self.faults), *proxied]


class Wire:
    """Spoils what the engine says from now on."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def spoil(self, fault: str, after: int = 0, seconds: float = 0.0) -> None:
        self._file.write_text(json.dumps({"fault": fault, "after": after, "seconds": seconds}))

    def mend(self) -> None:
        self._file.unlink(missing_ok=True)


@pytest.fixture
def wire(tmp_path: Path) -> Wire:
    return Wire(tmp_path / "faults.json")


@pytest.fixture
def spoilt(settings: Settings) -> Settings:
    settings = changed(settings, stall_timeout_s=0.6, breaker_failures=0)
    return simulated(settings, process=True, tokens_per_s=500)


def engine_in(folder: Path) -> type[SpoiltProcess]:
    class Engine(SpoiltProcess):
        faults = folder / "faults.json"

    return Engine


async def streamed(gateway: Gateway, **fields: object) -> tuple[int, list[str]]:
    """The status, and the data of each event."""
    body, headers = chat(stream=True, max_tokens=20, **fields), dict(SOON)
    async with gateway.http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
        lines = [line async for line in answer.aiter_lines()]
    return answer.status_code, [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]


async def nothing_is_left(gateway: Gateway) -> None:
    await until(lambda: gateway.services.tiers.counts().leases == 0)
    assert gateway.services.tiers.counts().waiting == 0


def ended_once(events: list[str]) -> bool:
    """Whether the stream ends with one error or one [DONE], and nothing after it."""
    ends = [event for event in events if event == "[DONE]" or "error" in json.loads(event)]
    return len(ends) == 1 and events[-1] == ends[0]


def text_of(events: list[str]) -> str:
    said = [json.loads(event) for event in events if event != "[DONE]"]
    choices = [choice for event in said for choice in event.get("choices", ())]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


@contextlib.asynccontextmanager
async def behind_the_wire(serving: Serving, settings: Settings, folder: Path) -> AsyncIterator[Gateway]:
    engine = engine_in(folder)

    def engine_of(family: str, settings: Settings, experts: Iterable[Expert]) -> SpoiltProcess:
        return engine(family, settings.families[family], settings.logs)

    async with serving(settings, engine_of=engine_of) as gateway:
        yield gateway


@pytest.mark.parametrize("fault", ["reset", "half-close", "silence"])
async def test_a_stream_that_breaks_between_engine_and_gateway_ends_with_one_error(
    serving: Serving, spoilt: Settings, wire: Wire, tmp_path: Path, fault: str
) -> None:
    """Wherever it breaks: before the first byte, in the headers, in an event, between two."""
    async with behind_the_wire(serving, spoilt, tmp_path) as gateway:
        _, whole = await streamed(gateway)
        for after in (0, 100, 199, 400, 1200, 2400):
            wire.spoil(fault, after)
            status, events = await streamed(gateway)
            await nothing_is_left(gateway)
            wire.mend()
            if status == 200:
                assert ended_once(events), f"after {after} bytes: {events[-2:]}"
                assert text_of(whole).startswith(text_of(events))
            else:
                assert status in (502, 503, 504), f"after {after} bytes: {status}"
            assert text_of((await streamed(gateway))[1]) == text_of(whole)


async def said_to_ollama(gateway: Gateway) -> tuple[int, list[dict[str, Any]]]:
    """The status, and the lines of a stream in Ollama's words."""
    body = {"model": "law", "messages": chat()["messages"], "options": {"num_predict": 20}}
    async with gateway.http.stream("POST", "/api/chat", json=body, headers=SOON) as answer:
        lines = [json.loads(line) async for line in answer.aiter_lines()]
    return answer.status_code, lines


@pytest.mark.parametrize("fault", ["reset", "half-close", "silence", "slices"])
async def test_a_stream_of_ollama_s_ends_with_its_last_line_or_one_error(
    serving: Serving, spoilt: Settings, wire: Wire, tmp_path: Path, fault: str
) -> None:
    def text_of(lines: list[dict[str, Any]]) -> str:
        return "".join(line["message"]["content"] for line in lines if "message" in line)

    async with behind_the_wire(serving, spoilt, tmp_path) as gateway:
        _, whole = await said_to_ollama(gateway)
        assert [line["done"] for line in whole] == [False] * (len(whole) - 1) + [True]
        for after in (0, 100, 199, 400, 1200, 2400):
            wire.spoil(fault, after, 0.01)
            status, lines = await said_to_ollama(gateway)
            await nothing_is_left(gateway)
            wire.mend()
            if status == 200:
                ends = [line for line in lines if "error" in line or line["done"]]
                assert ends == lines[-1:], f"after {after} bytes: {lines[-2:]}"
                assert text_of(whole).startswith(text_of(lines))
            else:
                assert status in (502, 503, 504), f"after {after} bytes: {status}"
                assert [*lines[0]] == ["error"]
            assert text_of((await said_to_ollama(gateway))[1]) == text_of(whole)


@pytest.mark.parametrize("fault", ["reset", "half-close"])
async def test_a_whole_answer_that_breaks_is_refused_and_never_cut(
    serving: Serving, spoilt: Settings, wire: Wire, tmp_path: Path, fault: str
) -> None:
    async with behind_the_wire(serving, spoilt, tmp_path) as gateway:
        whole = (await gateway.post(max_tokens=8)).json()["choices"]
        for after in (0, 90, 200, 300):
            wire.spoil(fault, after)
            answer = await gateway.post(SOON, max_tokens=8)
            wire.mend()
            assert answer.status_code in (502, 503, 504), f"after {after} bytes: {answer.text}"
            await nothing_is_left(gateway)
            assert (await gateway.post(max_tokens=8)).json()["choices"] == whole


@pytest.mark.parametrize("fault", ["slices", "delay"])
async def test_an_answer_that_comes_byte_by_byte_or_late_is_the_same(
    serving: Serving, spoilt: Settings, wire: Wire, tmp_path: Path, fault: str
) -> None:
    async with behind_the_wire(serving, spoilt, tmp_path) as gateway:
        _, whole = await streamed(gateway)
        wire.spoil(fault, seconds=0.01)
        _, events = await streamed(gateway)
        assert text_of(events) == text_of(whole)
        assert ended_once(events)
