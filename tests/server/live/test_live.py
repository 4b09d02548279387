"""Operators are told of a running gateway: its state and what changes, and stories; others are not."""

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

import server.live.feed
from server.config.settings import Settings
from tests.server.conftest import Gateway, Serving, changed, settled, simulated, until
from tests.server.wire import get, wire

QUESTION = [{"role": "user", "content": "What is the integral of x^2 from 0 to 3?"}]


class Watched:
    """The state as a page keeps it: the snapshot with every change applied."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}
        self.names: list[str] = []

    def take(self, name: str, data: dict[str, Any]) -> None:
        self.names.append(name)
        if name == "snapshot":
            self.state = data
        elif name == "delta":
            for section, rows in data["set"].items():
                self.state[section].update(rows)
            for section, keys in data["drop"].items():
                for key in keys:
                    del self.state[section][key]

    def has_heard(self, messages: int) -> bool:
        return self.names.count("still") >= messages

    def request(self, id: str) -> dict[str, Any] | None:
        return next((row for row in self.state.get("requests", {}).values() if row["id"] == id), None)


@contextlib.asynccontextmanager
async def watching(gateway: Gateway, **headers: str) -> AsyncIterator[Watched]:
    """A page that is open."""
    watched = Watched()

    async def read() -> None:
        name = ""
        async with gateway.http.stream("GET", "/v1/coe/events", headers=headers) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            async for line in response.aiter_lines():
                field, _, value = line.partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    watched.take(name, orjson.loads(value))

    reading = asyncio.create_task(read())
    try:
        await until(lambda: bool(watched.state) or reading.done())
        yield watched
    finally:
        reading.cancel()
        await asyncio.wait({reading})
        if not reading.cancelled():
            reading.result()


async def story(gateway: Gateway, id: str) -> dict[str, Any]:
    answer = await gateway.http.get(f"/v1/coe/requests/{id}")
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def test_a_page_follows_a_request_from_its_load_to_its_end(
    serving: Serving, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.live.feed, "EVERY_S", 0.02)
    async with serving(simulated(settings, load_bytes_per_s=2000)) as gateway, watching(gateway) as page:
        assert {*page.state} == {"at", "gateway", "tiers", "engines", "experts", "moves", "requests"}
        assert [*page.state["tiers"]] == ["device", "host", "disk"]
        asked = asyncio.create_task(
            gateway.post(
                {"x-request-id": "mine"},
                model="coe",
                messages=QUESTION,
                stream=True,
                max_tokens=400,
                ignore_eos=True,
            )
        )
        await until(lambda: "math>device" in page.state["moves"])
        assert page.state["moves"]["math>device"]["bytes"] > 1000
        await until(lambda: (page.request("mine") or {}).get("state") == "decoding")
        assert (await asked).status_code == 200
        await until(lambda: (page.request("mine") or {}).get("state") == "ended")
        assert page.state["moves"] == {}
        assert page.state["experts"]["math"]["tier"] == "device"
        row = page.request("mine")
        assert row is not None
        assert (row["expert"], row["category"], row["by"], row["outcome"]) == ("math", "math", "map", "200")
        assert [name for name, _, _ in row["phases"]] == [
            "admit",
            "route",
            "wait",
            "load",
            "queue",
            "prefill",
            "decode",
        ]
        assert row["tokens_out"] == 400
        current = (await gateway.http.get("/v1/coe/snapshot")).json()
        assert current["experts"] == page.state["experts"]
        assert current["requests"] == page.state["requests"]


async def test_a_story_says_why_this_expert_and_what_moved_for_it(
    serving: Serving, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with serving(settings) as gateway:
        for expert in ("general", "law"):  # the device is full
            assert (await gateway.post(model=expert)).status_code == 200
        answer = await gateway.post({"x-request-id": "mine"}, model="coe", messages=QUESTION, stream=True)
        assert answer.status_code == 200
        await settled(gateway)
        told = await story(gateway, "mine")
    assert (told["expert"], told["composition"], told["key"], told["path"]) == (
        "math",
        "coe",
        "anonymous",
        "/v1/chat/completions",
    )
    assert told["decided"]["category"] == "math"
    assert sum(told["decided"]["probabilities"].values()) == pytest.approx(1)
    row = {each["expert"]: each["score"] for each in told["decided"]["row"]}
    assert row.keys() == {"general", "math", "coding", "medicine", "law"}
    assert [*row.values()] == sorted(row.values(), reverse=True)
    assert told["ruled_out"] == []
    moves = {(move["kind"], move["expert"], move.get("target")) for move in told["moves"]}
    assert {("move", "math", "host"), ("move", "math", "device")} <= moves
    evicted = [move for move in told["moves"] if move["made_room_for"] == "math"]
    assert {move["reason"] for move in evicted} == {"eviction"}
    ends = [start + seconds for _, start, seconds in told["phases"]]
    assert ends[-1] == pytest.approx(told["seconds"])
    assert ends[:-1] == pytest.approx([start for _, start, _ in told["phases"]][1:])
    assert any("outcome=200" in line["text"] for line in told["log"])
    assert told["prompt"] is None
    assert QUESTION[0]["content"] not in str(told)


async def test_prompts_are_told_where_the_configuration_says_so(serving: Serving, settings: Settings) -> None:
    prompts = settings.observation.model_copy(update={"prompts": True})
    async with serving(settings.model_copy(update={"observation": prompts})) as gateway:
        await gateway.post({"x-request-id": "mine"}, messages=QUESTION)
        assert (await story(gateway, "mine"))["prompt"] == QUESTION[0]["content"]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_operator_cancels_a_request_and_its_client_is_told(
    serving: Serving, settings: Settings, stream: bool
) -> None:
    async with serving(settings) as gateway:
        fields: dict[str, Any] = {"stream": stream, "max_tokens": 100_000, "ignore_eos": True}
        asked = asyncio.create_task(gateway.post({"x-request-id": "mine"}, **fields))
        stories = gateway.services.observer.stories
        live = "decoding" if stream else "prefilling"
        await until(lambda: (found := stories.find("mine")) is not None and found.state == live)
        cancelled = await gateway.http.delete("/v1/coe/requests/mine")
        assert (cancelled.status_code, cancelled.json()["state"]) == (202, "cancelled")
        answer = await asked
        assert answer.status_code == (200 if stream else 499)
        assert "request_cancelled" in answer.text
        await until(lambda: gateway.services.tiers.counts().leases == 0 and not gateway.engine.running)
        told = await story(gateway, "mine")
        assert (told["state"], told["outcome"], told["cancellable"]) == ("ended", "499", False)
        again = await gateway.http.delete("/v1/coe/requests/mine")
        assert (again.status_code, again.json()["error"]["code"]) == (409, "conflict")
        gone = await gateway.http.get("/v1/coe/requests/other")
        assert (gone.status_code, gone.json()["error"]["code"]) == (404, "request_not_found")


async def test_nothing_is_made_while_nobody_listens_and_once_for_all_who_do(
    serving: Serving, settings: Settings
) -> None:
    async with serving(settings) as gateway:
        assert "feed of the state" not in tasks()
        async with watching(gateway) as one, watching(gateway) as other:
            assert tasks().count("feed of the state") == 1
            await until(lambda: one.state["gateway"]["gateway"]["pages"] == 2)
            await until(lambda: other.state["gateway"]["gateway"]["pages"] == 2)
        await until(lambda: "feed of the state" not in tasks())


def tasks() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks()]


async def test_a_page_that_does_not_read_is_cut_off_and_others_are_not_held_up(
    serving: Serving, settings: Settings
) -> None:
    async with serving(settings) as gateway, wire(gateway.url) as slow, watching(gateway) as page:
        await slow.send(get(b"/v1/coe/events"))
        feed = gateway.made.feed
        await until(lambda: feed.listeners == 2)
        big = b"event: still\ndata: " + orjson.dumps("x" * 2**20) + b"\n\n"
        for heard in range(100):  # one message more than buffers and its line hold
            if feed.listeners == 1:
                break
            feed.tell(big)
            await until(functools.partial(page.has_heard, heard + 1))
        assert (await slow.closed()).startswith(b"HTTP/1.1 200")
        assert (await gateway.post()).status_code == 200
        await until(lambda: any(row["state"] == "ended" for row in page.state["requests"].values()))


async def test_who_may_order_may_watch_and_nobody_else(serving: Serving, settings: Settings) -> None:
    paths = ["snapshot", "events", "history", "requests/mine"]
    guarded = changed(settings, admin_key=SecretStr("operator"), api_keys=(SecretStr("client"),))
    async with serving(guarded) as gateway:
        for path in paths:
            for headers in ({}, {"authorization": "Bearer client"}):
                answer = await gateway.http.get(f"/v1/coe/{path}", headers=headers)
                assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
        async with watching(gateway, authorization="Bearer operator") as page:
            assert page.names[0] == "snapshot"
    async with serving(settings) as gateway:
        own = {"origin": gateway.url}
        assert (await gateway.http.get("/v1/coe/snapshot", headers=own)).status_code == 200
        for origin in ("http://evil.example", "null", gateway.url.replace("http", "https")):
            answer = await gateway.http.get("/v1/coe/snapshot", headers={"origin": origin})
            assert answer.status_code == 403


async def test_a_page_does_not_hold_up_a_shutdown(serving: Serving, settings: Settings) -> None:
    async with serving(changed(settings, drain_s=600)) as gateway, watching(gateway):
        gateway.server.stop()
        gateway.server.should_exit = True
