"""Anthropic's Messages API over a real socket and the simulated engine."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from server.config.settings import Settings
from tests.server.access.test_keys import keyed
from tests.server.anthropic.test_from_chat import assembled
from tests.server.anthropic.test_to_chat import PNG, sent, text, user
from tests.server.conftest import AS_JSON, Gateway, Serving, changed, settled, simulated, until
from tests.server.routing.test_eligibility import able

MATHS = "Solve the equation 3x + 5 = 20 and show every step of the algebra."


async def ask(gateway: Gateway, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
    return await gateway.http.post("/v1/messages", json=sent(model="law") | fields, headers=headers)


def events_of(raw: str) -> list[dict[str, Any]]:
    return [json.loads(block.split("data: ")[1]) for block in raw[:-2].split("\n\n")]


async def test_a_message_is_answered(settings: Settings, serving: Serving) -> None:
    async with serving(settings) as gateway:
        answer = await ask(gateway, max_tokens=3, messages=[{"role": "user", "content": "one two"}])
    assert answer.status_code == 200
    body = answer.json()
    assert body.pop("id").startswith("msg_")
    assert body == {
        "type": "message",
        "role": "assistant",
        "model": "law",
        "content": [text("Simulated answer of")],
        "stop_reason": "max_tokens",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 2,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 3,
        },
    }
    assert answer.headers["request-id"] == answer.headers["x-request-id"]
    assert answer.headers["x-coe-expert"] == "law"


async def test_a_streamed_message_is_the_plain_one(settings: Settings, serving: Serving) -> None:
    async with serving(settings) as gateway:
        plain = (await ask(gateway, max_tokens=99)).json()
        answer = await ask(gateway, max_tokens=99, stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = events_of(answer.text)
    assert events[0]["message"]["usage"]["input_tokens"] == 1
    assert assembled(events) | {"id": plain["id"]} == plain
    assert plain["stop_reason"] == "end_turn"


async def test_a_message_is_routed_by_what_the_person_asks(settings: Settings, serving: Serving) -> None:
    talk = [user(text(MATHS)), {"role": "assistant", "content": "x = 5"}, user(text("and why?"))]
    async with serving(able(settings, math=["images"], law=[])) as gateway:
        routed = await ask(gateway, model="coe", system="You are a lawyer.", messages=[user(text(MATHS))])
        sticky = await ask(gateway, model="coe", messages=talk)
        picture = {"type": "image", "source": PNG}
        refused = await ask(gateway, model="law", messages=[user(picture, text("what is it?"))])
    assert routed.headers["x-coe-expert"] == "math"
    assert sticky.headers["x-coe-expert"] == "math"
    assert refused.status_code == 400
    assert refused.json()["error"] == {
        "type": "invalid_request_error",
        "message": "This request needs images: law does not take images.",
    }


async def test_tokens_are_counted_without_bringing_an_expert_to_the_device(
    settings: Settings, serving: Serving
) -> None:
    async with serving(settings) as gateway:
        await ask(gateway)
        await settled(gateway)
        before = {status.expert: status.tier for status in gateway.services.tiers.status()}
        away = next(name for name, tier in before.items() if tier != "device")
        body = {"model": away, "system": "be kind", "messages": [{"role": "user", "content": "one two"}]}
        answer = await gateway.http.post("/v1/messages/count_tokens", json=body)
        wrong = await gateway.http.post("/v1/messages/count_tokens", json={"model": away})
        assert {status.expert: status.tier for status in gateway.services.tiers.status()} == before
    assert answer.json() == {"input_tokens": 4}
    assert answer.headers["request-id"]
    assert (wrong.status_code, wrong.json()["error"]["type"]) == (400, "invalid_request_error")


async def test_a_refusal_is_in_anthropic_s_words(settings: Settings, serving: Serving) -> None:
    small = changed(settings, max_body=1000, api_keys=(SecretStr("secret"),))
    key = {"x-api-key": "secret"}
    async with serving(small) as gateway:
        wrong = await ask(gateway, {"x-request-id": "r1"})
        unknown = await ask(gateway, key, model="lwa")
        large = await ask(gateway, key, system="a" * 1000)
        no_json = await gateway.http.post("/v1/messages", content=b"{", headers=key | AS_JSON)
    assert wrong.json() == {
        "type": "error",
        "error": {"type": "authentication_error", "message": "No API key. Send 'Authorization: Bearer KEY'."},
        "request_id": "r1",
    }
    assert wrong.headers["request-id"] == "r1"
    statuses = [answer.status_code for answer in (wrong, unknown, large, no_json)]
    assert statuses == [401, 404, 413, 400]
    types = [answer.json()["error"]["type"] for answer in (unknown, large, no_json)]
    assert types == ["not_found_error", "request_too_large", "invalid_request_error"]


async def test_what_is_left_of_a_key_s_limits_is_said_in_anthropic_s_headers(
    settings: Settings, serving: Serving
) -> None:
    key, limits = {"x-api-key": "mine"}, "anthropic-ratelimit"
    async with serving(keyed(settings, requests_per_minute=2, tokens_per_minute=1000)) as gateway:
        before = datetime.now(UTC)
        answers = [await ask(gateway, key, max_tokens=10) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers[f"{limits}-requests-remaining"] for answer in answers] == ["1", "0", "0"]
    for answer in answers:
        assert answer.headers[f"{limits}-requests-limit"] == "2"
        assert answer.headers[f"{limits}-tokens-limit"] == "1000"
        assert 0 < int(answer.headers[f"{limits}-tokens-remaining"]) < 1000
        for what in ("requests", "tokens"):
            reset = datetime.fromisoformat(answer.headers[f"{limits}-{what}-reset"])
            assert before < reset <= before + timedelta(seconds=90)
        assert not [name for name in answer.headers if name.startswith("x-ratelimit")]
    assert 0 < int(answers[2].headers["retry-after"]) <= 61
    assert answers[2].json()["error"]["type"] == "rate_limit_error"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-api-key": "secret"}, 200),
        ({"authorization": "Bearer secret"}, 200),
        ({"x-api-key": "other"}, 401),
        ({"x-api-key": ""}, 401),
        ({"authorization": "Bearer other", "x-api-key": "secret"}, 401),
    ],
)
async def test_a_key_is_sent_in_either_header(
    settings: Settings, serving: Serving, headers: dict[str, str], status: int
) -> None:
    async with serving(changed(settings, api_keys=(SecretStr("secret"),))) as gateway:
        assert (await ask(gateway, headers)).status_code == status
        assert (await gateway.http.get("/v1/models", headers=headers)).status_code == status


async def test_a_stream_whose_engine_is_lost_ends_with_an_error_event(
    settings: Settings, serving: Serving
) -> None:
    async with serving(simulated(settings, tokens_per_s=50.0)) as gateway:
        request = gateway.http.stream(
            "POST", "/v1/messages", json=sent(model="law", max_tokens=60, stream=True)
        )
        async with request as answer:
            seen = ""
            async for part in answer.aiter_text():
                seen += part
                if "text_delta" in seen:
                    gateway.engine.crash()
    events = events_of(seen)
    assert events[0]["type"] == "message_start"
    assert events[-1]["type"] == "error"
    assert events[-1]["error"]["type"] == "api_error"
    assert events[-1]["request_id"] == answer.headers["request-id"]


async def test_a_client_that_leaves_gives_its_lease_back(settings: Settings, serving: Serving) -> None:
    async with serving(simulated(settings, tokens_per_s=5.0)) as gateway:
        asking = asyncio.create_task(ask(gateway, max_tokens=60, stream=True))
        await until(lambda: gateway.engine.running == 1)
        asking.cancel()
        await until(lambda: gateway.engine.running == 0)
        await until(lambda: all(status.leases == 0 for status in gateway.services.tiers.status()))


async def test_anthropic_s_clients_get_its_list_of_models(settings: Settings, serving: Serving) -> None:
    version = {"anthropic-version": "2023-06-01"}
    async with serving(settings) as gateway:
        page = (await gateway.http.get("/v1/models", headers=version)).json()
        law = await gateway.http.get("/v1/models/law", headers=version)
        plain = (await gateway.http.get("/v1/models")).json()
    one = law.json()
    assert law.headers["request-id"] == law.headers["x-request-id"]
    assert [model["id"] for model in page["data"]] == [model["id"] for model in plain["data"]]
    assert (page["has_more"], page["first_id"], page["last_id"]) == (False, "coe", page["data"][-1]["id"])
    assert one == next(model for model in page["data"] if model["id"] == "law")
    assert (one["type"], one["display_name"], one["max_input_tokens"]) == ("model", "law", 200_000)
    assert datetime.fromisoformat(one["created_at"]).timestamp() == plain["data"][0]["created"]
