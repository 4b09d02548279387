"""What a request of Anthropic's Messages API asks the engine for."""

from typing import Any

import orjson
import pytest

from server.anthropic.messages import COUNT_TOKENS, MESSAGES
from server.anthropic.request import MessagesRequest, asked
from server.anthropic.to_chat import chat_request
from server.errors import BadRequest, NotCapable
from server.exchange.engine.call import EngineRequest
from tests.server.conftest import CALLER
from tests.server.openai.test_model_request import EXPERT

PNG = {"type": "base64", "media_type": "image/png", "data": "aGk="}
TOOL = {"name": "weather", "description": "of a city", "input_schema": {"type": "object", "properties": {}}}


def text(said: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": said, **more}


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def sent(**fields: Any) -> dict[str, Any]:
    """A request; a field that is None is left out."""
    body = {"model": "coe", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]} | fields
    return {name: value for name, value in body.items() if value is not None}


def chat(**fields: Any) -> dict[str, Any]:
    return chat_request(asked(MessagesRequest, sent(**fields)))


def said(*messages: Any, **fields: Any) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = chat(messages=list(messages), **fields)["messages"]
    return made


def test_the_least_request_asks_for_what_it_says() -> None:
    assert chat() == {"model": "coe", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}


def test_sampling_and_the_client_s_user_have_other_names() -> None:
    made = chat(
        stop_sequences=["END"], temperature=1, top_p=0.5, top_k=7, metadata={"user_id": "u"}, stream=True
    )
    assert (made["stop"], made["temperature"], made["top_p"], made["top_k"]) == (["END"], 1, 0.5, 7)
    assert (made["user"], made["stream"]) == ("u", True)
    assert made["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}


def test_extras_reach_the_engine_and_what_is_anthropic_s_own_does_not() -> None:
    made = chat(
        seed=7, vllm_xargs={"a": 1}, service_tier="auto", cache_control={"type": "ephemeral"}, speed=None
    )
    assert (made["seed"], made["vllm_xargs"]) == (7, {"a": 1})
    assert made.keys() == {"model", "messages", "max_tokens", "seed", "vllm_xargs"}


@pytest.mark.parametrize("system", ["be kind", [text("be kind", cache_control={"type": "ephemeral"})]])
def test_the_system_prompt_comes_first(system: Any) -> None:
    assert said(user(text("hi")), system=system) == [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "hi"},
    ]


def test_the_system_prompt_and_a_system_message_after_it_are_one() -> None:
    made = said({"role": "system", "content": "b"}, user(text("hi")), system="a")
    assert made[0] == {"role": "system", "content": [text("a"), text("b")]}
    assert [message["role"] for message in made] == ["system", "user"]


def test_what_a_client_writes_for_anthropic_is_no_part_of_the_system_prompt() -> None:
    system = [text("x-anthropic-billing-header: cch=1f"), text("a"), text("b")]
    assert said(user(text("hi")), system=system)[0]["content"] == [text("a"), text("b")]


def test_pictures_are_parts() -> None:
    by_url = {"type": "image", "source": {"type": "url", "url": "https://a.example/b.png"}}
    content = said(user(text("see"), {"type": "image", "source": PNG}, by_url))[0]["content"]
    assert content == [
        text("see"),
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
        {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}},
    ]


def test_a_tool_s_use_and_what_it_gave() -> None:
    use = {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Rom"}}
    other = {"type": "tool_use", "id": "t2", "name": "weather", "input": {}}
    given = [
        {
            "type": "tool_result",
            "tool_use_id": "t1",
            "content": [text("20"), {"type": "image", "source": PNG}],
        },
        {"type": "tool_result", "tool_use_id": "t2", "content": "no city", "is_error": True},
        text("and?"),
    ]
    thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
    redacted = {"type": "redacted_thinking", "data": "xyz"}
    assistant = {"role": "assistant", "content": [thought, redacted, text("Look:"), use, other]}
    assert said(user(text("hi")), assistant, user(*given), tools=[TOOL]) == [
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "content": "Look:",
            "reasoning": "hm",
            "tool_calls": [
                {
                    "id": "t1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city":"Rom"}'},
                },
                {"id": "t2", "type": "function", "function": {"name": "weather", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "t1", "content": "20"},
        {"role": "tool", "tool_call_id": "t2", "content": "Error:\nno city"},
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
                text("and?"),
            ],
        },
    ]


def test_messages_of_one_role_that_follow_each_other_are_one_turn() -> None:
    made = said(user(text("a")), user(text("b")), {"role": "system", "content": "c"}, user(text("d")))
    assert made == [
        {"role": "user", "content": [text("a"), text("b")]},
        {"role": "system", "content": "c"},
        {"role": "user", "content": "d"},
    ]


def test_an_answer_that_was_begun_is_continued() -> None:
    begun = chat(messages=[user(text("2+2?")), {"role": "assistant", "content": "It is"}])
    assert (begun["continue_final_message"], begun["add_generation_prompt"]) == (True, False)
    empty = chat(messages=[user(text("2+2?")), {"role": "assistant", "content": ""}])
    assert "continue_final_message" not in empty
    assert [message["role"] for message in empty["messages"]] == ["user"]


def test_tools_are_functions() -> None:
    made = chat(tools=[TOOL, {**TOOL, "type": "custom", "strict": True, "cache_control": None}])
    function = {"name": "weather", "description": "of a city", "parameters": TOOL["input_schema"]}
    assert made["tools"] == [
        {"type": "function", "function": function},
        {"type": "function", "function": {**function, "strict": True}},
    ]
    assert "tool_choice" not in made


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto"}, "auto"),
        ({"type": "any"}, "required"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "weather"}, {"type": "function", "function": {"name": "weather"}}),
    ],
)
def test_the_choice_among_tools(choice: dict[str, Any], expected: Any) -> None:
    assert chat(tools=[TOOL], tool_choice=choice)["tool_choice"] == expected
    one = chat(tools=[TOOL], tool_choice={**choice, "disable_parallel_tool_use": True})
    assert one["parallel_tool_calls"] is False


@pytest.mark.parametrize(("kind", "thinks"), [("enabled", True), ("adaptive", True), ("disabled", False)])
def test_thinking_is_the_chat_template_s(kind: str, thinks: bool) -> None:
    thinking = {"type": kind, "budget_tokens": 1024}
    kwargs = chat(thinking=thinking)["chat_template_kwargs"]
    assert kwargs == {"enable_thinking": thinks, "thinking": thinks}
    own = chat(thinking=thinking, chat_template_kwargs={"thinking": 3})["chat_template_kwargs"]
    assert own == {"enable_thinking": thinks, "thinking": 3}


def test_how_the_answer_is_to_look() -> None:
    made = chat(
        output_config={"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}}
    )
    assert made["reasoning_effort"] == "low"
    assert made["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "output", "schema": {"type": "object"}},
    }


DOCUMENT = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="}}


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"model": None}, "model", "Field required"),
        ({"max_tokens": None}, "max_tokens", "Field required"),
        ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        ({"max_tokens": "9"}, "max_tokens", "valid integer"),
        ({"messages": None}, "messages", "Field required"),
        ({"messages": []}, "messages", "at least 1 item"),
        ({"messages": [{"role": "user", "content": []}]}, "messages", "no text"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages.0", "'user', 'assistant', 'system'"),
        ({"messages": [user({"type": "text"})]}, "messages.0.user.content.0.text.text", "Field required"),
        ({"messages": [user({"type": "tool_use"})]}, "messages.0.user.content.0", "'tool_use' is not taken"),
        (
            {"messages": [user({"type": "image", "source": {"type": "file", "file_id": "f"}})]},
            "messages.0.user.content.0.image.source",
            "'file' needs files",
        ),
        ({"messages": [user(DOCUMENT)]}, "messages.0.user.content.0", "'document' needs files"),
        ({"stream": "yes"}, "stream", "valid boolean"),
        ({"tools": [{"name": "a"}]}, "tools.0.input_schema", "Field required"),
        (
            {"tools": [{"type": "web_search_20250305", "name": "w"}]},
            "tools",
            "'web_search_20250305' is not run",
        ),
        ({"tool_choice": {"type": "auto"}}, "tool_choice", "send tools"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool"}}, "tool_choice.name", "name the tool"),
        ({"mcp_servers": [{"url": "https://a.example"}]}, "mcp_servers", "declare their tools"),
        ({"n": 2}, "n", "one answer"),
        ({"thinking": {"type": "deep"}}, "thinking.type", "'enabled'"),
        ({"chat_template": "{{ 1 }}"}, "chat_template", "own template"),
        (
            {"chat_template_kwargs": {"chat_template": "{{ 1 }}"}},
            "chat_template_kwargs.chat_template",
            "own template",
        ),
        (
            {
                "messages": [
                    user(text("a")),
                    {
                        "role": "assistant",
                        "content": [{"type": "tool_use", "id": "t", "name": "w", "input": {}}],
                    },
                ]
            },
            "messages",
            "what they gave",
        ),
    ],
)
async def test_what_is_refused_is_named(fields: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises((BadRequest, NotCapable)) as caught:
        await MESSAGES.read(orjson.dumps(sent(**fields)), CALLER)
    assert caught.value.param == param
    assert words in str(caught.value)
    assert (caught.type is NotCapable) == ("needs files" in words)


async def test_counting_needs_what_makes_the_prompt_alone() -> None:
    body = sent(
        system="be kind", tools=[TOOL], thinking={"type": "disabled"}, temperature=1, max_tokens=None, seed=7
    )
    call = await COUNT_TOKENS.read(orjson.dumps(body), CALLER)
    made = call.engine_body(EXPERT)
    assert made.keys() == {"model", "messages", "tools", "chat_template_kwargs", "chat_template"}
    assert (call.request.any_length, call.request.stream) == (True, False)
    asked = EngineRequest(EXPERT, call.engine_path, made)
    assert await call.whole(b'{"count":5,"tokens":[1]}', asked) == b'{"input_tokens":5}'
