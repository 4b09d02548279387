"""Responses that are streamed from the background, left and come back to, over a real socket."""

import asyncio
from typing import Any

import httpx
import openai
import orjson
import pytest
from openai import AsyncOpenAI
from pydantic import SecretStr

from server.config.api_keys import KeyConfig
from server.config.settings import Settings
from tests.clients import wire
from tests.server.conftest import Gateway, Serving, changed, simulated, until
from tests.server.responses.test_responses import client_of, error_of, limited

MINE = {"authorization": "Bearer mine"}
"""As the client says it."""
BACKGROUND: dict[str, Any] = {"model": "law", "input": "hello", "background": True, "stream": True}


async def ask(gateway: Gateway, more: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
    headers = MINE | (more or {})
    return await gateway.http.post("/v1/responses", json=BACKGROUND | fields, headers=headers)


async def left(client: AsyncOpenAI, until_type: str, **fields: Any) -> tuple[str, list[Any]]:
    """The id of a response whose client leaves after an event of a type, and what it has heard."""
    events: list[Any] = []
    async with await client.responses.create(**BACKGROUND | fields) as stream:
        async for event in stream:
            events.append(event)
            if event.type == until_type:
                break
    return events[0].response.id, events


async def test_a_response_is_streamed_from_the_background(settings: Settings, serving: Serving) -> None:
    async with serving(settings) as gateway, client_of(gateway) as client:
        answer = await ask(gateway)
        events = wire.response_events(answer)
        kinds = [event.type for event in events]
        assert kinds[:4] == [
            "response.created",
            "response.queued",
            "response.in_progress",
            "response.output_item.added",
        ]
        assert kinds[-1] == "response.completed"
        assert [event.response.status for event in events[:3]] == ["queued", "queued", "in_progress"]
        kept = await client.responses.retrieve(events[0].response.id)
        assert kept == events[-1].response
        assert kept.background
        again = await gateway.http.get(f"/v1/responses/{kept.id}", params={"stream": "true"}, headers=MINE)
        assert again.content == answer.content
        assert again.headers["content-type"] == answer.headers["content-type"]


async def test_a_client_that_left_comes_back_to_the_rest(settings: Settings, serving: Serving) -> None:
    async with serving(simulated(settings, tokens_per_s=100)) as gateway, client_of(gateway) as client:
        id, heard = await left(client, "response.output_text.delta")
        after = heard[-1].sequence_number
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(rejoined(client, id, after)) for _ in range(3)]
        rests = [task.result() for task in tasks]
        whole = await rejoined(client, id, None)
        assert [event.sequence_number for event in whole] == list(range(len(whole)))
        assert whole[-1].type == "response.completed"
        for rest in rests:
            assert heard + rest == whole
        text = "".join(event.delta for event in whole if event.type == "response.output_text.delta")
        assert text == (await client.responses.retrieve(id)).output_text
        assert await rejoined(client, id, len(whole) - 1) == []


async def rejoined(client: AsyncOpenAI, id: str, after: int | None) -> list[Any]:
    starting_after = openai.omit if after is None else after
    stream = await client.responses.retrieve(id, stream=True, starting_after=starting_after)
    return [event async for event in stream]


async def test_it_is_made_whoever_listens(settings: Settings, serving: Serving) -> None:
    async with serving(simulated(settings, tokens_per_s=50)) as gateway, client_of(gateway) as client:
        id, _ = await left(client, "response.queued")
        await until(lambda: gateway.engine.running == 1)
        for _ in range(5):
            async with await client.responses.retrieve(id, stream=True) as stream:
                await anext(aiter(stream))
        assert (await rejoined(client, id, 2))[-1].response.status == "completed"
        await until(lambda: gateway.services.tiers.counts().leases == 0)


async def test_whose_it_is_not_hears_nothing(settings: Settings, serving: Serving) -> None:
    keys = tuple(KeyConfig(key=SecretStr(secret), name=secret) for secret in ("mine", "other"))
    async with serving(changed(settings, api_keys=keys)) as gateway:
        async with client_of(gateway) as client, client_of(gateway, "other") as other:
            id, _ = await left(client, "response.completed")
            assert await rejoined(client, id, None)
            with pytest.raises(openai.NotFoundError):
                await rejoined(other, id, None)
            await client.responses.delete(id)
            with pytest.raises(openai.NotFoundError):
                await rejoined(client, id, None)
        assert gateway.responses.journals.bytes == 0


async def test_who_cancels_ends_the_stream(settings: Settings, serving: Serving) -> None:
    async with serving(simulated(settings, tokens_per_s=5)) as gateway, client_of(gateway) as client:
        id, _ = await left(client, "response.output_text.delta")
        following = asyncio.create_task(rejoined(client, id, 0))
        assert (await client.responses.cancel(id)).status == "cancelled"
        events = await following
        assert events[-1].type != "response.completed"
        assert gateway.engine.running == 0


async def test_one_that_fails_says_so_and_is_kept_as_far_as_it_came(
    settings: Settings, serving: Serving
) -> None:
    async with serving(simulated(settings, tokens_per_s=20)) as gateway, client_of(gateway) as client:
        id, heard = await left(client, "response.output_text.delta")
        gateway.engine.crash()
        events = heard + await rejoined(client, id, heard[-1].sequence_number)
        assert [event.sequence_number for event in events] == list(range(len(events)))
        assert events[-1].type == "response.failed"
        assert events[-1].response.error.code == "server_error"
        kept = await client.responses.retrieve(id)
        assert kept == events[-1].response
        assert kept.output_text.startswith("Simulated")


async def test_one_that_fails_before_it_begins_says_so(settings: Settings, serving: Serving) -> None:
    async with serving(settings) as gateway, client_of(gateway) as client:
        away = next(status.expert for status in gateway.services.tiers.status() if status.tier != "device")
        answer = await ask(gateway, {"x-coe-fail-fast": "1"}, model=away)
        events = wire.response_events(answer)
        assert [event.type for event in events] == ["response.created", "response.queued", "response.failed"]
        assert await client.responses.retrieve(events[0].response.id) == events[-1].response
        refused = await ask(gateway, model="nobody")
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
    assert not gateway.responses.journals.bytes


async def test_what_was_not_streamed_has_no_events(settings: Settings, serving: Serving) -> None:
    async with serving(settings) as gateway, client_of(gateway) as client:
        made = await client.responses.create(model="law", input="hello")
        for number in (None, 3):
            with pytest.raises(openai.BadRequestError) as raised:
                await rejoined(client, made.id, number)
            assert error_of(raised.value) == (400, "events_gone", "stream")
        for wrong in ("starting_after=-1", "starting_after=x", "stream=perhaps"):
            answer = await gateway.http.get(f"/v1/responses/{made.id}?{wrong}", headers=MINE)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, wrong.partition("=")[0])


async def test_more_events_than_are_kept_are_told_to_who_fell_behind(
    settings: Settings, serving: Serving
) -> None:
    small = limited(settings, max_stream_bytes=20_000)
    async with serving(small) as gateway, client_of(gateway) as client:
        answer = await ask(gateway, max_output_tokens=500, ignore_eos=True)
        id = orjson.loads(answer.content.partition(b"data: ")[2].partition(b"\n")[0])["response"]["id"]
        with pytest.raises(openai.BadRequestError) as raised:
            await rejoined(client, id, None)
        assert error_of(raised.value)[1] == "events_gone"
        kept = await client.responses.retrieve(id)
        assert kept.usage is not None
        assert kept.usage.output_tokens == 500
        assert gateway.responses.journals.bytes <= 20_000


async def test_a_background_that_is_full_keeps_no_events(settings: Settings, serving: Serving) -> None:
    slow = limited(simulated(settings, tokens_per_s=1), max_background=1)
    async with serving(slow) as gateway, client_of(gateway) as client:
        id, _ = await left(client, "response.queued")
        kept = gateway.responses.journals.bytes
        refused = await ask(gateway)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_in_background")
        assert gateway.responses.journals.bytes <= kept + 10_000
        await client.responses.cancel(id)
