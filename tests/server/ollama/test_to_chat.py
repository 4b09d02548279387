"""Requests of Ollama's API as chat completions: every field that has an effect, and what is refused."""

import math
from typing import Any

import pytest

from server.config.aliases import Aliases
from server.errors import GatewayError
from server.ollama.keep_alive import seconds_of
from server.ollama.request import ChatSent, GenerateSent, asked, model_named, tagged
from server.ollama.to_chat import chat_of, generated_by_chat, generated_raw

PNG, JPEG = "iVBORw0KGgoAAAANSUhEUg==", "/9j/4AAQSkZJRgABAQEASA=="


def chat(**fields: Any) -> dict[str, Any]:
    body = {"model": "law", "messages": [{"role": "user", "content": "hi"}]} | fields
    return chat_of(asked(ChatSent, body), "law")


def generated(**fields: Any) -> dict[str, Any]:
    return generated_by_chat(asked(GenerateSent, {"model": "law", "prompt": "hi"} | fields), "law")


def test_a_request_is_streamed_unless_it_says_otherwise() -> None:
    message = {"role": "user", "content": "hi"}
    whole = {"model": "law", "messages": [message]}
    assert chat(stream=False) == whole
    streamed = whole | {"stream": True, "stream_options": {"include_usage": True}}
    assert chat() == chat(stream=None) == streamed
    system = {"role": "system", "content": "be brief"}
    assert generated(system="be brief", stream=False) == whole | {"messages": [system, message]}
    raw = generated_raw(asked(GenerateSent, {"model": "x", "prompt": "hi", "stream": False}), "law")
    assert raw == {"model": "law", "prompt": "hi"}


def test_options_are_the_engine_s_and_those_of_loading_have_no_effect() -> None:
    options = {
        "num_predict": 7.0,
        "temperature": 0,
        "top_p": 0.5,
        "top_k": 40,
        "min_p": 0.1,
        "seed": 3,
        "repeat_penalty": 1.1,
        "presence_penalty": 0.2,
        "frequency_penalty": 0.3,
        "stop": ["END"],
        "num_ctx": 4096,
        "mirostat": 2,
    }
    made = chat(stream=False, options=options)
    assert {name: made[name] for name in made if name not in ("model", "messages")} == {
        "max_tokens": 7,
        "temperature": 0,
        "top_p": 0.5,
        "top_k": 40,
        "min_p": 0.1,
        "seed": 3,
        "repetition_penalty": 1.1,
        "presence_penalty": 0.2,
        "frequency_penalty": 0.3,
        "stop": ["END"],
    }
    assert "max_tokens" not in chat(options={"num_predict": -1})


def test_formats_thinking_and_log_probabilities() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    assert chat(format="json")["response_format"] == {"type": "json_object"}
    assert chat(format=schema)["response_format"]["json_schema"]["schema"] == schema
    assert "response_format" not in chat(format="")
    assert chat(think=False)["chat_template_kwargs"] == {"enable_thinking": False, "thinking": False}
    hard = chat(think="high")
    assert (hard["reasoning_effort"], hard["chat_template_kwargs"]["enable_thinking"]) == ("high", True)
    asked_for = chat(logprobs=True, top_logprobs=2)
    assert (asked_for["logprobs"], asked_for["top_logprobs"]) == (True, 2)


def test_calls_without_ids_and_their_results_find_each_other() -> None:
    def call(name: str, **more: Any) -> dict[str, Any]:
        return {"function": {"name": name, "arguments": {"city": "Rome"}}} | more

    messages = [
        {"role": "user", "content": "How is it?"},
        {"role": "assistant", "thinking": "hm", "tool_calls": [call("weather"), call("time")]},
        {"role": "tool", "tool_name": "time", "content": "noon"},
        {"role": "tool", "content": "sunny"},
        {"role": "assistant", "content": "", "tool_calls": [call("time", id="mine")]},
        {"role": "tool", "tool_call_id": "mine", "content": "one"},
    ]
    _, first, noon, sunny, second, one = chat(messages=messages, tools=[{"function": {"name": "time"}}])[
        "messages"
    ]
    weather_id, time_id = (called["id"] for called in first["tool_calls"])
    assert (noon["tool_call_id"], sunny["tool_call_id"]) == (time_id, weather_id)
    assert first["reasoning"] == "hm"
    assert first["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city":"Rome"}'}
    assert second["tool_calls"][0]["id"] == one["tool_call_id"] == "mine"


def test_pictures_stand_before_the_text_with_their_types() -> None:
    parts = chat(messages=[{"role": "user", "content": "what?", "images": [PNG, f"data:x;base64,{JPEG}"]}])
    content = parts["messages"][0]["content"]
    assert [part["type"] for part in content] == ["image_url", "image_url", "text"]
    assert content[0]["image_url"]["url"] == f"data:image/png;base64,{PNG}"
    assert content[1]["image_url"]["url"] == f"data:image/jpeg;base64,{JPEG}"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": [{"content": "hi"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "images": ["hello"]}]}, "messages.0.images.0"),
        ({"messages": [{"role": "user", "images": ["http://10.0.0.1/a.png"]}]}, "messages.0.images.0"),
        ({"format": "xml"}, "format"),
        ({"options": {"num_predict": "many"}}, "options.num_predict"),
        ({"keep_alive": "5 minutes"}, "keep_alive"),
        ({"keep_alive": True}, "keep_alive"),
        ({"model": ""}, "model"),
        ({"stream": "yes"}, "stream"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(GatewayError) as refused:
        chat(**fields)
    assert refused.value.param == param


@pytest.mark.parametrize(
    "fields", [{"template": "{{x}}"}, {"suffix": "}"}, {"context": [1, 2]}, {"images": ["x"]}]
)
def test_what_no_engine_does_is_refused_and_not_left_out(fields: dict[str, Any]) -> None:
    with pytest.raises(GatewayError, match=f"^{next(iter(fields))}"):
        generated(**fields)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (0, 0),
        ("0", 0),
        (300, 300),
        ("300", 300),
        ("5m", 300),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("500ms", 0.5),
        (-1, math.inf),
        ("-1m", math.inf),
        (None, None),
    ],
)
def test_how_long_it_is_kept(given: object, seconds: float | None) -> None:
    assert seconds_of(given) == seconds


def test_the_tag_that_ollama_puts_behind_names_is_left_out_and_put_there() -> None:
    aliases = Aliases({"mini:latest": "law", "llama*": "law"}, experts={"law", "a:b"}, compositions={"coe"})
    names = ["coe:latest", "law:latest", "mini:latest", "llama3:latest", "coe:31B", "none:latest"]
    assert [model_named(name, aliases) for name in names] == ["coe", "law", *names[2:]]
    assert [tagged(name) for name in ("law", "a:b")] == ["law:latest", "a:b"]
