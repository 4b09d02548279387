import asyncio
from pathlib import Path

import orjson
import pytest

from experts.errors import EngineLost, EngineUnavailable
from experts.simulated import SimulatedEngine
from experts.spec import Expert, SimulationConfig

ASK = {"messages": [{"role": "user", "content": "How are you?"}]}


class Clock:
    """Sleeps by counting."""

    def __init__(self) -> None:
        self.now = 0.0

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


async def started(folder: Path, clock: Clock, **speeds: float) -> SimulatedEngine:
    (folder / "config.json").write_text("{}")
    engine = SimulatedEngine("f", SimulationConfig.model_validate(speeds), clock.sleep)
    await engine.start(expert("law", folder), folder)
    return engine


def expert(name: str, folder: Path) -> Expert:
    return Expert(name, "f", folder, 2**20, 2**18, "", "")


async def test_an_answer_takes_as_long_as_its_tokens(tmp_path: Path) -> None:
    clock = Clock()
    engine = await started(tmp_path, clock, tokens_per_s=10, switch_s=0)
    answer = await engine.request("law", "/v1/chat/completions", {**ASK, "max_tokens": 20})
    completion = orjson.loads(b"".join([chunk async for chunk in answer.chunks()]))
    assert clock.now == pytest.approx(2.0)
    assert completion["usage"] == {"prompt_tokens": 3, "completion_tokens": 20, "total_tokens": 23}
    assert completion["choices"][0]["finish_reason"] == "length"
    assert completion["choices"][0]["message"]["content"].startswith("Simulated answer of law:")


async def test_a_load_takes_as_long_as_its_bytes_and_a_switch_its_time(tmp_path: Path) -> None:
    clock = Clock()
    engine = await started(tmp_path, clock, load_bytes_per_s=2**19, tokens_per_s=1, switch_s=0.5)
    loaded = await engine.load(expert("maths", tmp_path), tmp_path)
    assert (loaded.seconds, clock.now) == (2.0, 2.0)
    await engine.request("maths", "/v1/chat/completions", {**ASK, "max_tokens": 1})
    assert clock.now == pytest.approx(3.5)
    statistics = await engine.statistics()
    assert (statistics.switch_seconds, statistics.busy_seconds) == (0.5, 1.5)


async def test_a_stream_ends_with_usage_when_asked(tmp_path: Path) -> None:
    engine = await started(tmp_path, Clock())
    body = {**ASK, "stream": True, "max_tokens": 3, "stream_options": {"include_usage": True}}
    answer = await engine.request("law", "/v1/chat/completions", body)
    *events, last = [chunk async for chunk in answer.chunks()]
    parsed = [orjson.loads(event.removeprefix(b"data: ")) for event in events]
    assert last == b"data: [DONE]\n\n"
    assert parsed[-1]["usage"]["completion_tokens"] == 3
    texts = [event["choices"][0]["delta"].get("content") for event in parsed[:-1]]
    assert texts == ["Simulated", " answer", " of", None]
    assert parsed[-2]["choices"][0]["finish_reason"] == "length"


async def test_a_crash_ends_running_answers_and_refuses_new_ones(tmp_path: Path) -> None:
    engine = await started(tmp_path, Clock())
    death = asyncio.create_task(engine.died())
    answer = await engine.request("law", "/v1/chat/completions", {**ASK, "stream": True})
    engine.crash("out of cheese")
    with pytest.raises(EngineLost):
        _ = [chunk async for chunk in answer.chunks()]
    assert "out of cheese" in await death
    with pytest.raises(EngineUnavailable):
        await engine.request("law", "/v1/chat/completions", ASK)


async def test_an_answer_not_begun_when_the_engine_crashes_may_be_tried_again(tmp_path: Path) -> None:
    engine = await started(tmp_path, Clock())
    asking = asyncio.create_task(engine.request("law", "/v1/chat/completions", ASK))
    await asyncio.sleep(0)
    engine.crash()
    with pytest.raises(EngineUnavailable):
        await asking


async def test_other_paths_are_not_found(tmp_path: Path) -> None:
    engine = await started(tmp_path, Clock())
    answer = await engine.request("law", "/v1/embeddings", {})
    assert answer.status == 404
    assert b"does not know" in b"".join([chunk async for chunk in answer.chunks()])
