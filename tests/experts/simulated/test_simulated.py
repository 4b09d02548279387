import asyncio
import base64
import math
import struct
from pathlib import Path
from typing import Any

import orjson
import pytest

from experts.errors import EngineLost, EngineUnavailable
from experts.simulated.engine import SimulatedEngine
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


async def test_answers_beyond_those_computed_at_once_wait_for_their_turn(tmp_path: Path) -> None:
    engine = await started(tmp_path, Clock(), streams=2, switch_s=0)
    body = {**ASK, "max_tokens": 2, "stream": True}
    first, second = [await engine.request("law", "/v1/chat/completions", body) for _ in range(2)]
    waiting = [asyncio.create_task(engine.request("law", "/v1/chat/completions", body)) for _ in range(3)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert (engine.running, [each.done() for each in waiting]) == (2, [False] * 3)
    waiting[0].cancel()
    await first.close()
    third = await waiting[1]
    assert (engine.running, waiting[2].done()) == (2, False)
    engine.crash()
    with pytest.raises(EngineUnavailable):
        await waiting[2]
    assert engine.running == 0
    for each in (second, third):
        await each.close()


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


async def test_one_that_embeds_gives_vectors_and_no_text(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    engine = SimulatedEngine("f", SimulationConfig(), Clock().sleep, task="embed")
    for name in ("e5", "bge"):
        await (engine.load if name == "bge" else engine.start)(expert(name, tmp_path), tmp_path)

    async def ask(name: str, path: str = "/v1/embeddings", **body: object) -> Any:
        answer = await engine.request(name, path, body)
        return answer.status, orjson.loads(b"".join([chunk async for chunk in answer.chunks()]))

    status, both = await ask("e5", input=["one two", "three"])
    first, second = (each["embedding"] for each in both["data"])
    assert (status, both["model"], both["usage"]["prompt_tokens"]) == (200, "e5", 3)
    assert math.hypot(*first) == pytest.approx(1)
    assert (await ask("e5", input="three"))[1]["data"][0]["embedding"] == second != first
    assert (await ask("bge", input="three"))[1]["data"][0]["embedding"] != second
    _, packed = await ask("e5", input="three", encoding_format="base64", dimensions=8)
    short = struct.unpack("<8f", base64.b64decode(packed["data"][0]["embedding"]))
    assert short == pytest.approx([value / math.hypot(*second[:8]) for value in second[:8]])
    assert (await ask("e5", input=[[7, 8], [9]]))[1]["usage"]["total_tokens"] == 3
    assert (await ask("e5", input=[None]))[0] == 400
    assert (await ask("e5", "/v1/chat/completions", **ASK))[0] == 404
    assert (await engine.statistics()).switches == 2


async def test_other_paths_are_not_found(tmp_path: Path) -> None:
    engine = await started(tmp_path, Clock())
    answer = await engine.request("law", "/v1/embeddings", {})
    assert answer.status == 404
    assert b"does not know" in b"".join([chunk async for chunk in answer.chunks()])
