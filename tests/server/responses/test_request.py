"""What a client of /v1/responses may ask for, and the chat completion that it becomes."""

import json
from typing import Any

import pytest

from server.errors import BadRequest, GatewayError, NotCapable
from server.model_request import ModelRequest
from server.responses.wire.items import input_items
from server.responses.wire.request import chat_request, read_request
from server.responses.wire.tools import Tools

RUN = {"type": "custom", "name": "run", "description": "Runs Python."}
LARK = RUN | {"format": {"type": "grammar", "syntax": "lark", "definition": "start: /x/"}}
LOOK = {"type": "function", "name": "look", "description": "Looks.", "parameters": {"type": "object"}}


def chat_of(earlier: list[Any] | None = None, **fields: Any) -> ModelRequest:
    asked = read_request(json.dumps({"model": "law", "input": "hello"} | fields).encode())
    tools = Tools.of(asked.tools, asked.tool_choice)
    return chat_request(asked, tools, input_items(earlier), input_items(asked.input))


def messages_of(*items: Any, **fields: Any) -> list[Any]:
    return list(chat_of(input=list(items), **fields).messages)


def call(id: str, name: str = "look") -> dict[str, Any]:
    return {"type": "function_call", "call_id": id, "name": name, "arguments": "{}"}


def test_a_text_is_what_the_user_says_after_the_instructions() -> None:
    assert chat_of(instructions="Be brief.").messages == (
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hello"},
    )


def test_instructions_and_what_developers_say_first_are_one_message() -> None:
    developer = {"role": "developer", "content": [{"type": "input_text", "text": "No jokes."}]}
    assert messages_of(developer, {"role": "user", "content": "hello"}, instructions="Be brief.") == [
        {"role": "system", "content": "Be brief.\n\nNo jokes."},
        {"role": "user", "content": "hello"},
    ]


def test_a_turn_that_was_cut_into_items_is_one_message_again() -> None:
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"text": "Hm"}]}
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Look."}]}
    outputs = [{"type": "function_call_output", "call_id": id, "output": f"saw {id}"} for id in "ab"]
    messages = messages_of(
        {"role": "user", "content": "hello"}, thought, said, call("a"), call("b"), *outputs
    )
    function = {"name": "look", "arguments": "{}"}
    assert messages[1:] == [
        {
            "role": "assistant",
            "reasoning": "Hm",
            "content": "Look.",
            "tool_calls": [{"id": id, "type": "function", "function": function} for id in "ab"],
        },
        {"role": "tool", "tool_call_id": "a", "content": "saw a"},
        {"role": "tool", "tool_call_id": "b", "content": "saw b"},
    ]


def test_two_turns_of_the_assistant_stay_two() -> None:
    said = [{"role": "assistant", "content": text} for text in ("One.", "Two.")]
    assert messages_of(*said) == said


def test_images_and_files_become_the_parts_of_a_chat() -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,AA"}
    file = {"type": "input_file", "file_data": "data:text/plain;base64,AA", "filename": "a.txt"}
    (message,) = messages_of({"role": "user", "content": [{"type": "input_text", "text": "?"}, image, file]})
    assert message["content"] == [
        {"type": "text", "text": "?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", "detail": "auto"}},
        {"type": "file", "file": {"file_data": "data:text/plain;base64,AA", "filename": "a.txt"}},
    ]


def test_what_was_said_before_comes_before() -> None:
    earlier = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
    chat = chat_of(earlier, previous_response_id="resp_1", instructions="Be brief.")
    assert [message["content"] for message in chat.messages] == ["Be brief.", "one", "two", "hello"]


def test_the_fields_have_a_chats_names() -> None:
    schema = {"type": "json_schema", "name": "answer", "schema": {"type": "object"}, "strict": True}
    body = chat_of(
        max_output_tokens=9,
        temperature=0.5,
        top_p=0.9,
        top_logprobs=2,
        reasoning={"effort": "low"},
        text={"format": schema, "verbosity": "low"},
        tools=[LOOK],
        tool_choice={"type": "function", "name": "look"},
        parallel_tool_calls=False,
        truncation="auto",
        stream=True,
        metadata={"a": "b"},
        seed=7,
        unheard_of={"a": [1]},
    ).body
    function = {key: value for key, value in LOOK.items() if key != "type"}
    assert {key: value for key, value in body.items() if key not in ("model", "messages")} == {
        "max_completion_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "logprobs": True,
        "top_logprobs": 2,
        "reasoning_effort": "low",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True},
        },
        "verbosity": "low",
        "tools": [{"type": "function", "function": function}],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "parallel_tool_calls": False,
        "truncate_prompt_tokens": -1,
        "truncation_side": "left",
        "stream": True,
        "stream_options": {"include_usage": True},
        "seed": 7,
        "unheard_of": {"a": [1]},
    }


def test_a_plain_request_says_nothing_that_the_client_did_not() -> None:
    assert chat_of().body.keys() == {"model", "messages"}


def test_only_tools_that_may_be_called_are_shown_to_the_expert() -> None:
    other = {"type": "function", "name": "other"}
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "look"}]}
    body = chat_of(tools=[LOOK, other], tool_choice=allowed).body
    assert [tool["function"]["name"] for tool in body["tools"]] == ["look"]
    assert body["tool_choice"] == "required"


IMAGE = {"type": "input_image"}


def test_a_custom_tool_is_a_function_with_one_text() -> None:
    choice = {"type": "custom", "name": "run"}
    body = chat_of(tools=[RUN | {"format": {"type": "text"}}, LOOK], tool_choice=choice).body
    run, look = [tool["function"] for tool in body["tools"]]
    assert (run["name"], run["description"], run["strict"]) == ("run", "Runs Python.", True)
    assert run["parameters"]["properties"]["input"]["type"] == "string"
    assert look["name"] == "look"
    assert body["tool_choice"] == {"type": "function", "function": {"name": "run"}}
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [choice]}
    body = chat_of(tools=[RUN, LOOK], tool_choice=allowed).body
    assert [tool["function"]["name"] for tool in body["tools"]] == ["run"]
    assert body["tool_choice"] == "required"


def test_a_custom_call_and_its_output_are_a_tool_s() -> None:
    called, heard = messages_of(
        {"type": "custom_tool_call", "call_id": "c1", "name": "run", "input": 'print("1")'},
        {"type": "custom_tool_call_output", "call_id": "c1", "output": "1"},
    )
    (run,) = called["tool_calls"]
    assert (run["id"], run["function"]["name"]) == ("c1", "run")
    assert json.loads(run["function"]["arguments"]) == {"input": 'print("1")'}
    assert heard == {"role": "tool", "tool_call_id": "c1", "content": "1"}


@pytest.mark.parametrize(
    ("fields", "error", "param"),
    [
        ({"model": None}, BadRequest, "model"),
        ({"input": None}, BadRequest, "input"),
        ({"input": []}, BadRequest, "input"),
        ({"input": 5}, BadRequest, "input"),
        ({"input": [5]}, BadRequest, "input[0]"),
        ({"input": [{"role": "robot", "content": "hi"}]}, BadRequest, "input[0]"),
        ({"input": [{"role": "user", "content": 5}]}, BadRequest, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"type": "x"}]}]}, BadRequest, "input[0].content[0]"),
        (
            {"input": [{"role": "user", "content": [IMAGE | {"file_id": "file-1"}]}]},
            NotCapable,
            "input[0].content[0]",
        ),
        ({"input": [{"type": "function_call", "name": "look"}]}, BadRequest, "input[0]"),
        (
            {"input": [{"type": "function_call_output", "call_id": "a", "output": ""}]},
            BadRequest,
            "input[0]",
        ),
        ({"input": [{"type": "computer_call", "id": "x"}]}, NotCapable, "input[0]"),
        ({"instructions": ["a"]}, BadRequest, "instructions"),
        ({"stream": "yes"}, BadRequest, "stream"),
        ({"store": "yes"}, BadRequest, "store"),
        ({"max_output_tokens": 0}, BadRequest, "max_output_tokens"),
        ({"max_output_tokens": True}, BadRequest, "max_output_tokens"),
        ({"metadata": {"a": 5}}, BadRequest, "metadata.a"),
        ({"text": {"format": {"type": "xml"}}}, BadRequest, "text.format"),
        ({"text": {"verbosity": 5}}, BadRequest, "text.verbosity"),
        ({"reasoning": {"effort": "huge"}}, BadRequest, "reasoning.effort"),
        ({"tools": [{"type": "web_search"}]}, NotCapable, "tools[0]"),
        ({"tools": [{"type": "mcp", "server_label": "x"}]}, NotCapable, "tools[0]"),
        ({"tools": [LARK]}, NotCapable, "tools[0].format"),
        ({"tools": [RUN | {"format": {"type": "xml"}}]}, BadRequest, "tools[0].format"),
        ({"tools": [RUN | {"description": 5}]}, BadRequest, "tools[0].description"),
        ({"tools": [{"type": "custom"}]}, BadRequest, "tools[0].name"),
        ({"tools": [RUN], "tool_choice": {"type": "function", "name": "run"}}, BadRequest, "tool_choice"),
        ({"tools": [LOOK], "tool_choice": {"type": "custom", "name": "look"}}, BadRequest, "tool_choice"),
        ({"input": [{"type": "custom_tool_call", "call_id": "c"}]}, BadRequest, "input[0]"),
        (
            {"input": [{"type": "custom_tool_call_output", "call_id": "c", "output": "1"}]},
            BadRequest,
            "input[0]",
        ),
        ({"tools": [{"type": "function"}]}, BadRequest, "tools[0].name"),
        ({"tools": [LOOK | {"parameters": 5}]}, BadRequest, "tools[0].parameters"),
        ({"tools": [LOOK], "tool_choice": {"type": "function", "name": "x"}}, BadRequest, "tool_choice"),
        ({"tool_choice": {"type": "file_search"}}, NotCapable, "tool_choice"),
        ({"tool_choice": "required"}, BadRequest, "tool_choice"),
        ({"conversation": "conv_1"}, NotCapable, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, NotCapable, "prompt"),
        ({"messages": [{"role": "user", "content": "hi"}]}, BadRequest, "messages"),
        ({"response_format": {"type": "json_object"}}, BadRequest, "response_format"),
        ({"background": True, "store": False}, BadRequest, "store"),
    ],
)
def test_what_cannot_be_done_is_refused_and_the_field_is_named(
    fields: dict[str, Any], error: type[GatewayError], param: str
) -> None:
    with pytest.raises(error) as caught:
        chat_of(**fields)
    assert caught.value.param == param
