"""What the gateway reads of a chat request, and what it adds for the engine."""

import json
from pathlib import Path
from typing import Any

import pytest

from experts.spec import Expert, Generation
from server.errors import BadRequest
from server.model_request import engine_chat, parse_chat

EXPERT = Expert(
    name="law",
    family="small",
    folder=Path("/nowhere"),
    weights_bytes=1,
    parameters=1,
    fingerprint="f",
    chat_template="{{ messages }}",
    generation=Generation(stop_token_ids=(2, 0), temperature=0.3, top_p=0.9, max_tokens=64),
)


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "coe", "messages": [{"role": "user", "content": "hi"}]} | fields).encode()


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        (b"{", None),
        (b"\xff\xfe", None),
        (b"[]", None),
        (b'"text"', None),
        (body(model=None), "model"),
        (body(model=""), "model"),
        (body(model=["coe"]), "model"),
        (body(messages=None), "messages"),
        (body(messages=[]), "messages"),
        (body(messages="hi"), "messages"),
        (body(messages=["hi"]), "messages[0]"),
        (body(messages=[{"role": "user", "content": "a"}, {"content": "b"}]), "messages[1]"),
        (body(stream="yes"), "stream"),
        (body(chat_template="{{ 1 }}"), "chat_template"),
        (body(vllm_xargs="expert"), "vllm_xargs"),
        (body(chat_template_kwargs="thinking"), "chat_template_kwargs"),
        (body(cache_salt=["a"]), "cache_salt"),
        (body(chat_template_kwargs={"chat_template": "{{ 1 }}"}), "chat_template_kwargs.chat_template"),
    ],
)
def test_a_bad_body_is_refused_and_the_field_is_named(raw: bytes, param: str | None) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_chat(raw)
    assert caught.value.param == param


def test_fields_the_gateway_does_not_own_reach_the_engine_untouched() -> None:
    made = engine_chat(parse_chat(body(tools=[{"x": 1}], seed=7, unheard_of={"a": [1]})), EXPERT)
    assert (made["tools"], made["seed"], made["unheard_of"]) == ([{"x": 1}], 7, {"a": [1]})


def test_the_expert_gives_its_template_stop_tokens_and_defaults() -> None:
    made = engine_chat(parse_chat(body()), EXPERT)
    assert made["chat_template"] == "{{ messages }}"
    assert made["stop_token_ids"] == [2, 0]
    assert (made["temperature"], made["top_p"], made["max_tokens"]) == (0.3, 0.9, 64)
    assert "top_k" not in made


def test_what_the_client_says_wins_over_the_defaults() -> None:
    request = parse_chat(body(temperature=0, max_completion_tokens=5, stop_token_ids=[9, 2]))
    made = engine_chat(request, EXPERT)
    assert made["temperature"] == 0
    assert "max_tokens" not in made
    assert made["stop_token_ids"] == [9, 2, 0]


@pytest.mark.parametrize("stops", ["text", 5, [[1]], [{"a": 1}]])
def test_stop_tokens_of_a_wrong_type_are_the_engines_to_refuse(stops: Any) -> None:
    made = engine_chat(parse_chat(body(stop_token_ids=stops)), EXPERT)
    assert made["stop_token_ids"] == ([*stops, 2, 0] if isinstance(stops, list) else stops)


def test_a_client_that_ignores_the_end_of_text_gets_no_stop_tokens_of_the_experts() -> None:
    assert "stop_token_ids" not in engine_chat(parse_chat(body(ignore_eos=True)), EXPERT)


def test_the_clients_own_body_is_left_alone() -> None:
    request = parse_chat(body())
    engine_chat(request, EXPERT)
    assert "chat_template" not in request.body
