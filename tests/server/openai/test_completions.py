"""Completions and tokens, over a real socket and the simulated engine."""

from typing import Any

import orjson
import pytest

from server.config.settings import Settings
from tests.server.conftest import Serving, changed, chat, settled


async def test_a_prompt_is_completed_by_the_expert_it_names(settings: Settings, serving: Serving) -> None:
    async with serving(settings) as gateway:
        answer = await gateway.http.post(
            "/v1/completions", json={"model": "law", "prompt": "hello", "max_tokens": 3}
        )
    assert answer.status_code == 200
    body = answer.json()
    assert (body["object"], body["model"]) == ("text_completion", "law")
    assert body["usage"]["completion_tokens"] == 3
    assert answer.headers["x-coe-expert"] == "law"


async def test_a_prompt_is_routed(settings: Settings, serving: Serving) -> None:
    prompt = ["hi", "Solve the equation 3x + 5 = 20 and show every step of the algebra."]
    async with serving(settings) as gateway:
        answer = await gateway.http.post("/v1/completions", json={"model": "coe", "prompt": prompt})
    assert answer.headers["x-coe-expert"] == "math"


async def test_a_stream_is_completed(settings: Settings, serving: Serving) -> None:
    body = {"model": "law", "prompt": "hello", "max_tokens": 3, "stream": True}
    async with serving(settings) as gateway:
        plain = (await gateway.http.post("/v1/completions", json=body)).text
        counted = (
            await gateway.http.post(
                "/v1/completions", json=body | {"stream_options": {"include_usage": True}}
            )
        ).text
    events = [orjson.loads(line[6:]) for line in plain.splitlines() if line.startswith("data: {")]
    assert "".join(event["choices"][0]["text"] for event in events) == "Simulated answer of"
    assert "usage" not in plain
    assert '"usage":{"prompt_tokens":1' in counted
    assert plain.endswith("data: [DONE]\n\n")


async def test_as_many_answers_as_are_configured_are_given(settings: Settings, serving: Serving) -> None:
    limits = settings.server.limits.model_copy(update={"choices": 2, "answers": 4})
    async with serving(changed(settings, limits=limits)) as gateway:
        for n, status in ((1, 200), (2, 200), (None, 200), (3, 400)):
            assert (await gateway.post(n=n, max_tokens=1)).status_code == status
        tokens = {"model": "law", "prompt": [1, 2, 3, 4, 5], "max_tokens": 1, "n": 2}
        assert (await gateway.http.post("/v1/completions", json=tokens)).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/completions", {"model": "law"}, "prompt"),
        ("/v1/completions", {"model": "law", "prompt": []}, "prompt"),
        ("/v1/completions", {"prompt": "hello"}, "model"),
        ("/v1/completions", {"model": "coe", "prompt": [1, 2, 3]}, "model"),
        ("/v1/completions", {"model": "law", "prompt": "hello", "stream": "yes"}, "stream"),
        ("/v1/completions", {"model": "law", "prompt": "hello", "n": 129}, "n"),
        ("/v1/completions", {"model": "law", "prompt": "hello", "best_of": 16384}, "best_of"),
        ("/v1/completions", {"model": "law", "prompt": ["hello"] * 2049}, "prompt"),
        ("/v1/completions", {"model": "law", "prompt": [[1], [2]] * 512, "n": 3}, "prompt"),
        ("/v1/chat/completions", chat(n=16384), "n"),
        ("/v1/chat/completions", chat(n="16384"), "n"),
        ("/v1/chat/completions", chat(n=16384.0), "n"),
        ("/tokenize", {"model": "law"}, "prompt"),
        ("/tokenize", {"model": "law", "messages": []}, "messages"),
        ("/detokenize", {"model": "coe", "tokens": [1]}, "model"),
    ],
)
async def test_what_is_missing_is_said(
    settings: Settings, serving: Serving, path: str, body: dict[str, Any], param: str
) -> None:
    async with serving(settings) as gateway:
        answer = await gateway.http.post(path, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


async def test_tokens_are_counted_without_bringing_an_expert_to_the_device(
    settings: Settings, serving: Serving
) -> None:
    async with serving(settings) as gateway:
        await gateway.post(model="law")
        await settled(gateway)
        before = {status.expert: status.tier for status in gateway.services.tiers.status()}
        away = next(name for name, tier in before.items() if tier != "device")
        answer = await gateway.http.post("/tokenize", json={"model": away, "prompt": "one two three"})
        chat = {"model": away, "messages": [{"role": "user", "content": "one two"}]}
        of_chat = await gateway.http.post("/tokenize", json=chat)
        back = await gateway.http.post("/detokenize", json={"model": away, "tokens": [2, 3]})
        assert {status.expert: status.tier for status in gateway.services.tiers.status()} == before
    assert answer.json()["tokens"] == [3, 3, 5]
    assert of_chat.json()["count"] == 2
    assert back.json() == {"prompt": "xx xxx"}
    assert answer.headers["x-coe-expert"] == away


async def test_a_text_of_any_length_is_tokenized(settings: Settings, serving: Serving) -> None:
    family = settings.families["small"].model_copy(update={"max_model_len": 64})
    settings = settings.model_copy(update={"families": {"small": family}})
    async with serving(settings) as gateway:
        answer = await gateway.http.post("/tokenize", json={"model": "law", "prompt": "word " * 100})
        refused = await gateway.http.post("/v1/completions", json={"model": "law", "prompt": "word " * 100})
    assert answer.json()["count"] == 100
    assert refused.json()["error"]["code"] == "context_length_exceeded"
