"""Clients that wait: signs of life, time-outs of their own, and engines that say nothing more."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import openai
import pytest

from experts.errors import EngineStalled
from server.config.settings import Settings
from server.resilience.stall_timeout import unstalled
from tests.server.conftest import Gateway, Serving, changed, chat, simulated, until

ENDPOINTS = {
    "/v1/chat/completions": chat(stream=True, max_tokens=5),
    "/v1/completions": {"model": "law", "prompt": "hello", "stream": True, "max_tokens": 5},
    "/v1/messages": chat(stream=True, max_tokens=5),
    "/v1/responses": {"model": "law", "input": "hello", "stream": True, "max_output_tokens": 16},
}


def slow_to_load(settings: Settings, **server: object) -> Settings:
    """Loads take half a second, and who waits for one gets a comment every 50 ms."""
    return changed(simulated(settings, load_bytes_per_s=2000), **{"keep_alive_s": 0.05} | server)


async def nothing_is_left(gateway: Gateway) -> None:
    counts = gateway.services.tiers.counts
    await until(lambda: (counts().waiting, counts().leases, gateway.engine.running) == (0, 0, 0))


def events(text: str) -> list[str]:
    """The data of a stream, without comments."""
    return [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]


@pytest.mark.parametrize("path", ENDPOINTS)
async def test_a_stream_that_waits_for_a_load_is_told_how_far_it_is(
    serving: Serving, settings: Settings, path: str
) -> None:
    async with serving(slow_to_load(settings)) as gateway:
        async with gateway.http.stream("POST", path, json=ENDPOINTS[path]) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["x-coe-expert"] == "law"
            assert "x-coe-tier" not in answer.headers  # nobody knows yet how long it waits
            lines = [line async for line in answer.aiter_lines() if line]
        comments = [line for line in lines if line.startswith(":")]
        assert lines[: len(comments)] == comments
        assert ": loading law ..." in comments
        calm = await gateway.http.post(path, json=ENDPOINTS[path])
        assert not [line for line in calm.text.splitlines() if line.startswith(":")]
        assert calm.headers["x-coe-tier"] == "device"
        assert len(events("\n".join(lines))) == len(events(calm.text))


async def test_a_load_that_was_measured_is_told_in_percent(serving: Serving, settings: Settings) -> None:
    async with serving(slow_to_load(settings)) as gateway:
        await gateway.post(model="law")
        streamed = await gateway.post(model="math", stream=True)
        assert any(
            line.startswith(": loading math, ") and line.endswith(" % ...")
            for line in streamed.text.splitlines()
        )


async def test_openais_client_does_not_notice_the_signs_of_life(serving: Serving, settings: Settings) -> None:
    async with (
        serving(slow_to_load(settings)) as gateway,
        openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0) as client,
    ):
        stream = await client.chat.completions.create(
            model="law", messages=[{"role": "user", "content": "hello"}], stream=True, max_tokens=5
        )
        parts = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
        whole = (await gateway.post(model="law", max_tokens=5)).json()
        assert "".join(parts) == whole["choices"][0]["message"]["content"]


async def test_a_long_prefill_has_signs_of_life_too(serving: Serving, settings: Settings) -> None:
    slow = changed(simulated(settings, tokens_per_s=4), keep_alive_s=0.05)
    async with serving(slow) as gateway:
        answer = await gateway.post(model="general", stream=True, max_tokens=1)
        assert answer.text.startswith(": waiting for general ...\n\n")
        assert events(answer.text)[-1] == "[DONE]"


async def test_a_client_may_do_without(serving: Serving, settings: Settings) -> None:
    async with serving(slow_to_load(settings)) as gateway:
        answer = await gateway.post({"x-coe-keep-alive-s": "0"}, model="law", stream=True)
        assert answer.headers["x-coe-tier"] == "disk"
        assert answer.text.startswith("data: ")


@pytest.mark.parametrize(
    "sent",
    [
        {"x-coe-keep-alive-s": "0.2"},
        {"x-coe-keep-alive-s": "often"},
        {"x-coe-timeout-s": "0"},
        {"x-coe-timeout-s": "-1"},
        {"x-coe-timeout-s": "nan"},
        {"x-coe-timeout-s": "inf"},
        {"x-coe-timeout-s": "1 minute"},
    ],
)
async def test_what_cannot_be_waited_is_refused(
    serving: Serving, settings: Settings, sent: dict[str, str]
) -> None:
    async with serving(settings) as gateway:
        answer = await gateway.post(sent)
        assert answer.status_code == 400
        assert next(iter(sent)) in answer.json()["error"]["message"]


def never_loads(settings: Settings, **server: object) -> Settings:
    return changed(simulated(settings, load_bytes_per_s=1), **server)


async def test_a_client_s_time_out_is_an_error_of_openais_and_the_load_goes_on(
    serving: Serving, settings: Settings
) -> None:
    async with serving(simulated(settings, load_bytes_per_s=500)) as gateway:
        answer = await gateway.post({"x-coe-timeout-s": "0.2"}, model="law")
        assert answer.status_code == 504
        error = answer.json()["error"]
        assert (error["type"], error["code"], error["param"]) == ("timeout", "request_timeout", None)
        await nothing_is_left(gateway)
        assert gateway.services.tiers.counts().moves == 1
        loaded = await gateway.post({"x-coe-fail-fast": "0"}, model="law")
        assert loaded.status_code == 200
        assert 'coe_breaker_open{expert="law"} 0.0' in (await gateway.http.get("/metrics")).text
        metrics = (await gateway.http.get("/metrics")).text
        assert (
            'coe_move_seconds_count{from_tier="host",outcome="done",reason="ticket",to_tier="device"} 1.0'
            in metrics
        )


async def test_the_shorter_of_two_time_outs_holds(serving: Serving, settings: Settings) -> None:
    async with serving(never_loads(settings, request_timeout_s=0.1)) as gateway:
        for sent in ({}, {"x-coe-timeout-s": "1000"}):
            assert (await gateway.post(sent, model="law")).status_code == 504


@pytest.mark.parametrize("path", ENDPOINTS)
async def test_what_fails_after_a_sign_of_life_is_an_event(
    serving: Serving, settings: Settings, path: str
) -> None:
    async with serving(never_loads(settings, keep_alive_s=0.001)) as gateway:
        headers = {"x-coe-timeout-s": "1"}
        answer = await gateway.http.post(path, json=ENDPOINTS[path], headers=headers)
        assert answer.status_code == 200
        assert answer.text.startswith(": ")
        assert "The answer was not complete after 1 s;" in events(answer.text)[-1]
        metrics = (await gateway.http.get("/metrics")).text
        assert 'coe_requests_total{expert="law",outcome="504"} 1.0' in metrics
        await nothing_is_left(gateway)


async def test_a_time_out_ends_a_stream_with_an_event(serving: Serving, settings: Settings) -> None:
    """Tokens come every millisecond and would go on for minutes."""
    async with serving(simulated(settings, tokens_per_s=1000)) as gateway:
        endless = {"max_tokens": 150_000, "ignore_eos": True, "stream": True}
        answer = await gateway.post({"x-coe-timeout-s": "1"}, model="general", **endless)
        assert answer.status_code == 200
        assert json.loads(events(answer.text)[-1])["error"]["code"] == "request_timeout"
        assert 'finish_reason":"' not in answer.text
        assert 2 < len(events(answer.text)) < 150_000
        await nothing_is_left(gateway)


async def test_an_engine_that_says_nothing_more_ends_the_stream_with_an_event(
    serving: Serving, settings: Settings
) -> None:
    stalled = changed(simulated(settings, tokens_per_s=2), stall_timeout_s=0.05)
    async with serving(stalled) as gateway:
        answer = await gateway.post(model="general", stream=True, max_tokens=3)
        assert json.loads(events(answer.text)[-1])["error"]["code"] == "engine_stalled"
        await nothing_is_left(gateway)
        whole = await gateway.post(model="general", max_tokens=2)  # it has no events to wait for
        assert whole.status_code == 200


async def test_a_slow_reader_is_no_stalled_engine() -> None:
    async def three() -> AsyncIterator[bytes]:
        for part in (b"a", b"b", b"c"):
            yield part

    read = []
    async for part in unstalled(b"", three(), 0.02):
        await asyncio.sleep(0.1)
        read.append(part)
    assert read == [b"a", b"b", b"c"]


async def never() -> AsyncIterator[bytes]:
    yield b"a"
    await asyncio.Event().wait()


async def test_a_stall_is_an_error_and_leaves_the_task_as_it_was() -> None:
    parts = unstalled(b"", never(), 0.02)
    assert await anext(parts) == b"a"
    with pytest.raises(EngineStalled, match=r"said nothing for 0\.02 s"):
        await anext(parts)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_cancellation_is_no_stall() -> None:
    async def read() -> None:
        async for _ in unstalled(b"", never(), 1000):
            pass

    task = asyncio.create_task(read())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_client_that_leaves_while_it_gets_signs_of_life_gives_its_ticket_back(
    serving: Serving, settings: Settings
) -> None:
    async with serving(never_loads(settings, keep_alive_s=0.05)) as gateway:
        body = chat(stream=True)
        async with gateway.http.stream("POST", "/v1/chat/completions", json=body) as answer:
            assert (await anext(answer.aiter_bytes())).startswith(b": ")
            assert gateway.services.tiers.counts().waiting == 1
        await nothing_is_left(gateway)
        assert 'outcome="client_left"} 1.0' in (await gateway.http.get("/metrics")).text


async def test_a_client_that_does_not_stream_gets_a_plain_error(serving: Serving, settings: Settings) -> None:
    async with serving(never_loads(settings, keep_alive_s=0.05)) as gateway:
        answer: httpx.Response = await gateway.post({"x-coe-timeout-s": "0.3"}, model="law")
        assert answer.status_code == 504
        assert answer.headers["content-type"] == "application/json"
