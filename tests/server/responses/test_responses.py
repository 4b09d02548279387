"""The Responses API over a real socket and the simulated engine, as OpenAI's own client speaks it."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import orjson
import pytest
from openai import AsyncOpenAI
from openai.types.responses import Response
from pydantic import SecretStr

from server.config.api_keys import KeyConfig
from server.config.settings import Settings
from server.errors import BadRequest
from server.exchange.engine.call import EngineRequest
from server.responses.responses import LONGEST, ResponseCall, Responses
from tests.server.conftest import CALLER, Gateway, Serving, changed, simulated, until
from tests.server.routing.test_eligibility import able

RUNNING = ("queued", "in_progress")


@asynccontextmanager
async def client_of(gateway: Gateway, key: str = "mine") -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0) as client:
        yield client


async def post(gateway: Gateway, **fields: Any) -> httpx.Response:
    return await gateway.http.post("/v1/responses", json={"model": "law", "input": "hello"} | fields)


def error_of(raised: openai.APIStatusError) -> tuple[int, str | None, str | None]:
    return raised.status_code, raised.code, raised.param


def limited(settings: Settings, **limits: Any) -> Settings:
    return settings.model_copy(update={"responses": settings.responses.model_copy(update=limits)})


async def ended(client: AsyncOpenAI, response: Response) -> Response:
    while response.status in RUNNING:
        response = await client.responses.retrieve(response.id)
    return response


async def test_a_response_is_made_and_retrieved(settings: Settings, serving: Serving) -> None:
    async with serving(settings) as gateway, client_of(gateway) as client:
        answer = await post(gateway, max_output_tokens=100, metadata={"a": "b"}, instructions="Be brief.")
        response = Response.model_validate(answer.json(), strict=True)
        assert response.output_text.startswith("Simulated answer of law:")
        assert (response.status, response.model, response.metadata) == ("completed", "law", {"a": "b"})
        assert response.usage is not None
        assert response.usage.output_tokens == 64
        assert answer.headers["x-coe-expert"] == "law"

        made = await client.responses.create(model="law", input="hello", max_output_tokens=3)
        assert made.incomplete_details is not None
        assert (made.status, made.incomplete_details.reason) == ("incomplete", "max_output_tokens")
        assert await client.responses.retrieve(made.id) == made


async def test_the_sdks_stream_helper_sees_the_same_as_a_plain_request(
    settings: Settings, serving: Serving
) -> None:
    async with serving(settings) as gateway, client_of(gateway) as client:
        plain = await client.responses.create(model="law", input="hello")
        async with client.responses.stream(model="law", input="hello") as stream:
            text = "".join(
                [event.delta async for event in stream if event.type == "response.output_text.delta"]
            )
            final = await stream.get_final_response()
        assert text == final.output_text == plain.output_text
        assert final.usage == plain.usage
        kept = await client.responses.retrieve(final.id)
        assert kept.output_text == text


async def test_a_composition_routes_a_response(settings: Settings, serving: Serving) -> None:
    question = "Solve the equation 3x + 5 = 20 and show every step of the algebra."
    async with serving(settings) as gateway:
        answer = await post(gateway, model="coe", input=question)
    assert (answer.json()["model"], answer.headers["x-coe-expert"]) == ("math", "math")


async def test_a_conversation_goes_on_from_a_response(settings: Settings, serving: Serving) -> None:
    async with serving(settings) as gateway, client_of(gateway) as client:
        first = await client.responses.create(model="law", input="one", instructions="Not inherited.")
        second = await client.responses.create(model="law", input="two", previous_response_id=first.id)
        messages = [
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": first.output_text},
            {"role": "user", "content": "two"},
        ]
        chat = await gateway.post(messages=messages)
        assert second.output_text == chat.json()["choices"][0]["message"]["content"]
        assert second.previous_response_id == first.id

        given = [item.to_dict() async for item in client.responses.input_items.list(second.id)]
        assert [item["content"] for item in given] == [[{"type": "input_text", "text": "two"}]]

        await client.responses.delete(first.id)
        with pytest.raises(openai.BadRequestError) as raised:
            await client.responses.create(model="law", input="three", previous_response_id=second.id)
        assert error_of(raised.value) == (400, "previous_response_not_found", "previous_response_id")


async def test_an_item_is_referred_to_by_its_id(settings: Settings, serving: Serving) -> None:
    async with serving(settings) as gateway, client_of(gateway) as client:
        first = await client.responses.create(model="law", input="one")
        reference = {"type": "item_reference", "id": first.output[0].id}
        user = [{"role": "user", "content": text} for text in ("one", "two")]
        referring = await post(gateway, input=[user[0], reference, user[1]])
        assert referring.status_code == 400  # another key's
        again = await client.responses.create(
            model="law",
            input=[user[0], reference, user[1]],  # type: ignore[list-item]
        )
        on = await client.responses.create(model="law", input="two", previous_response_id=first.id)
        assert again.output_text == on.output_text


async def test_another_key_finds_nothing(settings: Settings, serving: Serving) -> None:
    async with serving(settings) as gateway, client_of(gateway) as client, client_of(gateway, "x") as other:
        mine = await client.responses.create(model="law", input="hello")
        asked: list[Awaitable[Any]] = [
            other.responses.retrieve(mine.id),
            other.responses.delete(mine.id),
            other.responses.cancel(mine.id),
            other.responses.input_items.list(mine.id),
        ]
        for asking in asked:
            with pytest.raises(openai.NotFoundError):
                await asking
        with pytest.raises(openai.BadRequestError) as raised:
            await other.responses.create(model="law", input="on", previous_response_id=mine.id)
        assert error_of(raised.value)[1] == "previous_response_not_found"
        assert await client.responses.retrieve(mine.id) == mine


async def test_what_is_not_stored_is_not_found(settings: Settings, serving: Serving) -> None:
    async with serving(settings) as gateway, client_of(gateway) as client:
        made = await client.responses.create(model="law", input="hello", store=False)
        with pytest.raises(openai.NotFoundError) as raised:
            await client.responses.retrieve(made.id)
        assert error_of(raised.value) == (404, None, None)


async def test_input_items_come_in_pages(settings: Settings, serving: Serving) -> None:
    async with serving(settings) as gateway, client_of(gateway) as client:
        texts = ["a", "b", "c", "d", "e"]
        made = await client.responses.create(
            model="law", input=[{"role": "user", "content": text} for text in texts]
        )
        items = client.responses.input_items.list(made.id, limit=2, order="asc")
        assert [item.to_dict()["content"][0]["text"] async for item in items] == texts  # type: ignore[index]
        newest = await client.responses.input_items.list(made.id, limit=1)
        assert newest.data[0].to_dict()["content"][0]["text"] == "e"  # type: ignore[index]
        with pytest.raises(openai.BadRequestError):
            await client.responses.input_items.list(made.id, after="msg_unknown")
        with pytest.raises(openai.BadRequestError) as raised:
            await client.responses.input_items.list(made.id, limit=0)
        assert error_of(raised.value)[2] == "limit"


async def test_custom_tools_and_their_calls_are_taken_and_shown_again(
    settings: Settings, serving: Serving
) -> None:
    tool: Any = {"type": "custom", "name": "run", "description": "Runs Python."}
    talk: Any = [
        {"role": "user", "content": "What is 1 + 1?"},
        {"type": "custom_tool_call", "call_id": "c1", "name": "run", "input": "print(1 + 1)"},
        {"type": "custom_tool_call_output", "call_id": "c1", "output": "2"},
    ]
    chosen = {"type": "custom", "name": "run"}
    body = {"model": "law", "input": talk, "tools": [tool], "tool_choice": chosen}
    async with serving(able(settings, law=["tools"])) as gateway, client_of(gateway) as client:
        headers = {"authorization": "Bearer mine"}
        answer = await gateway.http.post("/v1/responses", json=body, headers=headers)
        made = Response.model_validate(answer.json(), strict=True)
        assert [shown.type for shown in made.tools] == ["custom"]
        items = [item async for item in await client.responses.input_items.list(made.id, order="asc")]
        assert [item.type for item in items] == ["message", *(item["type"] for item in talk[1:])]
        assert str(items[1].id).startswith("ctc_")
        more = await client.responses.create(model="law", input="And 2 + 2?", previous_response_id=made.id)
        assert more.status == "completed"


async def test_a_response_is_made_in_the_background(settings: Settings, serving: Serving) -> None:
    async with serving(settings) as gateway, client_of(gateway) as client:
        queued = await client.responses.create(model="law", input="hello", background=True, temperature=0.5)
        assert (queued.status, queued.output, queued.temperature) == ("queued", [], 0.5)
        response = await ended(client, queued)
        assert (response.status, response.created_at) == ("completed", queued.created_at)
        assert response.output_text.startswith("Simulated answer of law:")
        assert await client.responses.cancel(queued.id) == response


async def test_one_in_the_background_is_cancelled_and_gives_its_lease_back(
    settings: Settings, serving: Serving
) -> None:
    async with serving(simulated(settings, tokens_per_s=1)) as gateway, client_of(gateway) as client:
        queued = await client.responses.create(model="law", input="hello", background=True)
        await until(lambda: gateway.engine.running == 1)
        with pytest.raises(openai.BadRequestError) as raised:
            await client.responses.create(model="law", input="on", previous_response_id=queued.id)
        assert error_of(raised.value)[2] == "previous_response_id"
        cancelled = await client.responses.cancel(queued.id)
        assert cancelled.status == "cancelled"
        assert gateway.engine.running == 0
        assert gateway.services.tiers.counts().leases == 0
        assert await client.responses.retrieve(queued.id) == cancelled


async def test_deleting_one_in_the_background_ends_it(settings: Settings, serving: Serving) -> None:
    async with serving(simulated(settings, tokens_per_s=1)) as gateway, client_of(gateway) as client:
        queued = await client.responses.create(model="law", input="hello", background=True)
        await until(lambda: gateway.engine.running == 1)
        await client.responses.delete(queued.id)
        assert gateway.engine.running == 0
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(queued.id)


async def test_the_background_is_bounded(settings: Settings, serving: Serving) -> None:
    slow = limited(simulated(settings, tokens_per_s=1), max_background=1)
    async with serving(slow) as gateway, client_of(gateway) as client:
        queued = await client.responses.create(model="law", input="hello", background=True)
        with pytest.raises(openai.RateLimitError) as raised:
            await client.responses.create(model="law", input="hello", background=True)
        assert error_of(raised.value) == (429, "too_many_in_background", "background")
        await client.responses.cancel(queued.id)


async def test_one_in_the_background_that_fails_says_why(settings: Settings, serving: Serving) -> None:
    async with serving(settings) as gateway, client_of(gateway) as client:
        with pytest.raises(openai.NotFoundError):
            await client.responses.create(model="nobody", input="hello", background=True)
        away = next(status.expert for status in gateway.services.tiers.status() if status.tier != "device")
        queued = await client.responses.create(
            model=away, input="hello", background=True, extra_headers={"x-coe-fail-fast": "1"}
        )
        response = await ended(client, queued)
        assert response.error is not None
        assert (response.status, response.error.code) == ("failed", "server_error")


async def test_one_in_the_background_is_counted_once_and_in_its_key_until_it_ends(
    settings: Settings, serving: Serving
) -> None:
    key = KeyConfig(key=SecretStr("mine"), name="me", concurrent_requests=1)
    slow = changed(simulated(settings, tokens_per_s=1), api_keys=(key,))
    async with serving(slow) as gateway, client_of(gateway) as client:
        queued = await client.responses.create(model="law", input="hello", background=True)
        await until(lambda: gateway.engine.running == 1)
        with pytest.raises(openai.RateLimitError):
            await client.responses.create(model="law", input="hello")
        await client.responses.cancel(queued.id)
        short = await client.responses.create(
            model="law", input="hello", background=True, max_output_tokens=1
        )
        assert (await ended(client, short)).status == "incomplete"
        answer = await gateway.http.get("/v1/coe/usage", headers={"authorization": "Bearer mine"})
    law = {row["expert"]: row for row in answer.json()["rows"]}["law"]
    assert (law["requests"], law["completion_tokens"]) == (2, 1)


async def test_a_rotated_key_has_its_responses_still(settings: Settings, serving: Serving) -> None:
    keys = [KeyConfig(key=SecretStr(secret), name=name) for secret, name in (("mine", "me"), ("x", "other"))]
    rotated = [KeyConfig(key=SecretStr("new"), name="me"), keys[1]]
    locked = changed(settings, api_keys=tuple(keys))
    async with serving(locked, lambda: changed(settings, api_keys=tuple(rotated))) as gateway:
        async with client_of(gateway) as client:
            made = await client.responses.create(model="law", input="hello")
        await gateway.reload.now()
        async with client_of(gateway, "new") as client, client_of(gateway, "x") as other:
            assert await client.responses.retrieve(made.id) == made
            with pytest.raises(openai.NotFoundError):
                await other.responses.retrieve(made.id)


async def test_only_one_in_the_background_is_cancelled(settings: Settings, serving: Serving) -> None:
    async with serving(settings) as gateway, client_of(gateway) as client:
        made = await client.responses.create(model="law", input="hello")
        with pytest.raises(openai.BadRequestError):
            await client.responses.cancel(made.id)


async def test_of_what_a_client_that_left_was_answered_nothing_is_kept(
    settings: Settings, serving: Serving
) -> None:
    async with serving(simulated(settings, tokens_per_s=5)) as gateway, client_of(gateway) as client:
        stream = await client.responses.create(model="law", input="hello", stream=True)
        event = await anext(aiter(stream))
        assert event.type == "response.created"
        await stream.close()
        await until(lambda: gateway.engine.running == 0)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(event.response.id)


async def test_a_stream_whose_engine_dies_ends_with_a_response_that_failed(
    settings: Settings, serving: Serving
) -> None:
    async with serving(simulated(settings, tokens_per_s=20)) as gateway, client_of(gateway) as client:
        events = []
        async for event in await client.responses.create(model="law", input="hello", stream=True):
            if event.type == "response.created":
                gateway.engine.crash()
            events.append(event)
        last = events[-1]
        assert last.type == "response.failed"
        assert last.response.error is not None
        assert last.response.error.code == "server_error"
        assert [each.sequence_number for each in events] == list(range(len(events)))


async def called(gateway: Gateway, raw: bytes) -> tuple[ResponseCall, EngineRequest]:
    """A request as it is read, and as an expert is asked."""
    call = await Responses(gateway.responses, gateway.services).read(raw, CALLER)
    expert = gateway.services.experts["law"]
    return call, EngineRequest(expert, call.engine_path, call.engine_body(expert))


async def scripted(gateway: Gateway, *pieces: bytes) -> list[dict[str, Any]]:
    """The events of a stream whose engine answers ``pieces``, and its comments as they are."""
    call, asked = await called(gateway, b'{"model": "law", "input": "hello", "stream": true}')

    async def engine() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    sent = b"".join([piece async for piece in call.streamed(engine(), asked).events()])
    blocks = sent.decode().removesuffix("\n\n").split("\n\n")
    return [
        {"type": block} if block[0] == ":" else orjson.loads(block.partition("data: ")[2]) for block in blocks
    ]


async def test_comments_pass_and_several_pieces_may_come_at_once(
    settings: Settings, serving: Serving
) -> None:
    pieces = [
        orjson.dumps({"choices": [{"delta": {"content": text}, "finish_reason": finish}]})
        for text, finish in (("So", None), (" it is.", "stop"))
    ]
    chunk = b"".join(b"data: " + piece + b"\n\n" for piece in pieces)
    async with serving(settings) as gateway:
        events = await scripted(gateway, b": waiting\n\n", chunk, b"data: [DONE]\n\n")
    assert [event["type"] for event in events[:3]] == [
        "response.created",
        "response.in_progress",
        ": waiting",
    ]
    assert [event["delta"] for event in events if event["type"].endswith("delta")] == ["So", " it is."]
    assert events[-1]["type"] == "response.completed"


async def test_a_response_that_cannot_be_kept_is_answered_and_says_so(
    settings: Settings, serving: Serving, tmp_path: Path
) -> None:
    file = tmp_path / "responses.sqlite"
    async with serving(limited(settings, file=file)) as gateway:
        with sqlite3.connect(file) as database:
            database.execute("DROP TABLE responses")
        database.close()
        answer = await post(gateway)
        assert (answer.status_code, answer.json()["store"]) == (200, False)
        refused = await gateway.http.get(f"/v1/responses/{answer.json()['id']}")
        assert refused.json()["error"]["code"] == "responses_unavailable"
        assert str(file) not in refused.text


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"model": "nobody"}, 404, "model"),
        ({"input": None}, 400, "input"),
        ({"tools": [{"type": "web_search"}]}, 400, "tools[0]"),
        ({"previous_response_id": "resp_unknown"}, 400, "previous_response_id"),
        ({"input": "word " * 300_000}, 400, "input"),
        ({"tools": [{"type": "custom", "name": "x", "format": {"type": "grammar"}}]}, 400, "tools[0].format"),
        ({"input": [{"type": "item_reference", "id": "msg_x"}]}, 400, "input"),
        ({"stream": True, "conversation": "conv_1"}, 400, "conversation"),
    ],
)
async def test_what_is_refused_names_the_field(
    settings: Settings, serving: Serving, fields: dict[str, Any], status: int, param: str
) -> None:
    async with serving(settings) as gateway:
        answer = await post(gateway, **fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)


async def test_a_conversation_larger_than_a_body_is_refused(settings: Settings, serving: Serving) -> None:
    small = changed(settings, max_body=5000)
    async with serving(small) as gateway:
        previous = None
        for _ in range(2):
            made = await post(gateway, input="x" * 2000, previous_response_id=previous)
            previous = made.json()["id"]
        refused = await post(gateway, previous_response_id=previous)
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "request_too_large")


async def test_keys_are_checked_everywhere(settings: Settings, serving: Serving) -> None:
    locked = changed(settings, api_keys=(SecretStr("secret"),))
    async with serving(locked) as gateway:
        answers = [
            await post(gateway),
            await gateway.http.get("/v1/responses/resp_1"),
            await gateway.http.delete("/v1/responses/resp_1"),
            await gateway.http.post("/v1/responses/resp_1/cancel"),
            await gateway.http.get("/v1/responses/resp_1/input_items"),
        ]
    assert [answer.status_code for answer in answers] == [401] * 5


async def test_a_file_keeps_responses_over_a_restart(
    settings: Settings, serving: Serving, tmp_path: Path
) -> None:
    filed = limited(settings, file=tmp_path / "responses.sqlite")
    async with serving(filed) as gateway, client_of(gateway) as client:
        made = await client.responses.create(model="law", input="hello")
    async with serving(filed) as gateway, client_of(gateway) as client:
        assert await client.responses.retrieve(made.id) == made


async def test_a_shutdown_does_not_wait_for_the_background_longer_than_it_drains(
    settings: Settings, serving: Serving, tmp_path: Path
) -> None:
    slow = limited(simulated(settings, tokens_per_s=0.1), file=tmp_path / "responses.sqlite")
    slow = changed(slow, drain_s=0)
    async with asyncio.timeout(60):
        async with serving(slow) as gateway:
            queued = orjson.loads((await post(gateway, background=True)).content)
            await until(lambda: gateway.engine.running == 1)
        async with serving(limited(settings, file=tmp_path / "responses.sqlite")) as gateway:
            found = await gateway.http.get(f"/v1/responses/{queued['id']}")
    assert found.json()["status"] == "failed"


async def test_an_answer_too_long_to_be_read_at_once_is_refused(settings: Settings, serving: Serving) -> None:
    async with serving(settings) as gateway:
        call, asked = await called(gateway, b'{"model": "law", "input": "hello"}')
        with pytest.raises(BadRequest, match="'top_logprobs'"):
            await call.whole(b" " * (LONGEST + 1), asked)
