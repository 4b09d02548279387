"""Scripted chat completions as responses: whole and streamed, against the SDK's own types."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from server.error_table import Failure
from server.responses.wire.from_chat import Answering, Event
from server.responses.wire.request import echo, read_request
from server.responses.wire.tools import Tools

EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
USAGE = {
    "prompt_tokens": 7,
    "completion_tokens": 5,
    "total_tokens": 12,
    "prompt_tokens_details": {"cached_tokens": 4, "created_cache_tokens": 2},
    "completion_tokens_details": {"reasoning_tokens": 2},
}


RUN = {"type": "custom", "name": "run"}


def created() -> dict[str, Any]:
    asked = read_request(b'{"model": "law", "input": "hello"}')
    head = {"id": f"resp_{'0' * 32}", "object": "response", "created_at": 1, "completed_at": None}
    state: dict[str, Any] = {
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "usage": None,
        "output": [],
    }
    return {**head, **state, "model": "law", **echo(asked, Tools.of([RUN], None), {})}


def whole(message: dict[str, Any], finish_reason: str = "stop", **choice: Any) -> dict[str, Any]:
    answering = Answering(created())
    chosen = {"index": 0, "message": message, "finish_reason": finish_reason, **choice}
    list(answering.take({"choices": [chosen], "usage": USAGE}))
    list(answering.end(2))
    Response.model_validate(answering.response, strict=True)
    return answering.response


def streamed(*deltas: dict[str, Any], finish_reason: str = "stop") -> list[Event]:
    answering = Answering(created())
    events = list(answering.begin())
    for delta in ({"role": "assistant", "content": ""}, *deltas):
        events += answering.take({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    events += answering.take({"choices": [{"index": 0, "delta": {}, "finish_reason": finish_reason}]})
    events += answering.take({"choices": [], "usage": USAGE})
    events += answering.end(2)
    events.append(answering.last())
    check(events)
    return events


def check(events: list[Event]) -> None:
    for number, event in enumerate(events):
        EVENTS.validate_python(event, strict=True)
        assert event["sequence_number"] == number


def types(events: list[Event]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def call(name: str, arguments: str, id: str = "call_1") -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_a_text_is_a_message_with_its_usage() -> None:
    response = whole({"role": "assistant", "content": "Yes."})
    (message,) = response["output"]
    assert (message["type"], message["role"], message["status"]) == ("message", "assistant", "completed")
    assert [part["text"] for part in message["content"]] == ["Yes."]
    assert (response["status"], response["completed_at"]) == ("completed", 2)
    assert response["usage"] == {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 12,
    }


def test_an_empty_answer_is_a_message_without_text() -> None:
    (message,) = whole({"role": "assistant", "content": None})["output"]
    assert message["content"][0]["text"] == ""


@pytest.mark.parametrize(
    ("finish_reason", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
def test_an_answer_that_was_cut_off_is_incomplete_and_so_is_its_last_item(
    finish_reason: str, reason: str
) -> None:
    response = whole({"content": "So", "reasoning": "Hm"}, finish_reason)
    assert response["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": reason}
    assert [item["status"] for item in response["output"]] == ["completed", "incomplete"]
    assert types(streamed({"content": "So"}, finish_reason="length"))[-1] == "incomplete"


def test_what_the_expert_thought_comes_before_what_it_said_and_called() -> None:
    response = whole({"content": "Look.", "reasoning": "Hm", "tool_calls": [call("look", "{}")]})
    assert [item["type"] for item in response["output"]] == ["reasoning", "message", "function_call"]
    thought, _, called = response["output"]
    assert thought["content"] == [{"type": "reasoning_text", "text": "Hm"}]
    assert (called["call_id"], called["name"], called["arguments"]) == ("call_1", "look", "{}")
    assert len({item["id"] for item in response["output"]}) == 3


def test_log_probabilities_are_those_of_the_chat() -> None:
    token = {"token": "Yes", "logprob": -0.5, "bytes": [89, 101, 115]}
    logprobs = {"content": [{**token, "top_logprobs": [{**token, "bytes": None}]}]}
    (message,) = whole({"content": "Yes"}, logprobs=logprobs)["output"]
    assert message["content"][0]["logprobs"] == [{**token, "top_logprobs": [{**token, "bytes": []}]}]


def test_a_stream_has_openais_events_in_openais_order() -> None:
    events = streamed(
        {"reasoning": "H"},
        {"reasoning": "m"},
        {"content": "Lo"},
        {"content": "ok."},
        {"tool_calls": [{"index": 0, **call("look", "")}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]},
    )
    assert types(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    assert events[0]["response"]["status"] == "in_progress"
    assert [event["item"] for event in events if event["type"].endswith("item.done")] == events[-1][
        "response"
    ]["output"]


def test_calls_that_come_mixed_are_each_whole() -> None:
    events = streamed(
        {"tool_calls": [{"index": 0, **call("one", "{", "a")}, {"index": 1, **call("two", "[", "b")}]},
        {"tool_calls": [{"index": 1, "function": {"arguments": "]"}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]},
    )
    output = events[-1]["response"]["output"]
    assert [(item["call_id"], item["arguments"]) for item in output] == [("a", "{}"), ("b", "[]")]


def test_a_stream_that_cannot_go_on_ends_with_a_response_that_failed() -> None:
    answering = Answering(created())
    events = [*answering.begin(), *answering.take({"choices": [{"delta": {"content": "So"}}]})]
    events += answering.fail(Failure(502, "The engine went away.", "server_error"))
    check(events)
    assert types(events)[-2:] == ["output_item.done", "failed"]
    assert events[-1]["response"]["error"] == {"code": "server_error", "message": "The engine went away."}
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == "So"


def pieces(text: str, cuts: list[int]) -> Iterator[str]:
    places = sorted({cut % (len(text) + 1) for cut in cuts} | {0, len(text)})
    yield from (text[start:end] for start, end in itertools.pairwise(places))


CUTS = some.lists(some.integers(0, 100), max_size=4)
TEXT = some.text(max_size=20)


@given(
    thought=TEXT,
    content=TEXT,
    calls=some.lists(TEXT, max_size=3),
    cuts=CUTS,
    finish_reason=some.sampled_from(["stop", "length", "tool_calls"]),
)
def test_whole_and_streamed_answers_agree(
    thought: str, content: str, calls: list[str], cuts: list[int], finish_reason: str
) -> None:
    tool_calls = [call("look", arguments, f"call_{index}") for index, arguments in enumerate(calls)]
    deltas: list[dict[str, Any]] = [{"reasoning": piece} for piece in pieces(thought, cuts)]
    deltas += [{"content": piece} for piece in pieces(content, cuts)]
    for index, made in enumerate(tool_calls):
        head = call("look", "", made["id"])
        deltas.append({"tool_calls": [{"index": index, **head}]})
        for piece in pieces(made["function"]["arguments"], cuts):
            deltas.append({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    message = {"role": "assistant", "content": content, "reasoning": thought, "tool_calls": tool_calls}
    events = streamed(*deltas, finish_reason=finish_reason)
    assert events[-1]["response"] == whole(message, finish_reason)
    said = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    assert said == content


def test_a_call_of_a_custom_tool_has_its_text() -> None:
    said = {"role": "assistant", "content": None, "tool_calls": [call("run", '{"input": "print(1)\\n"}')]}
    (run,) = whole(said)["output"]
    assert (run["type"], run["name"], run["call_id"]) == ("custom_tool_call", "run", "call_1")
    assert (run["input"], run["status"]) == ("print(1)\n", "completed")


def test_the_text_of_a_custom_tool_is_streamed_without_the_json_around_it() -> None:
    pieces = ['{"in', 'put": "print', "(\\", '"1\\")', '"}']
    first = call("run", "") | {"index": 0}
    rest = [{"index": 0, "function": {"arguments": piece}} for piece in pieces]
    other = call("look", "{}", "call_2") | {"index": 1}
    calls = [{"tool_calls": [each]} for each in (first, *rest, other)]
    events = streamed(*calls, finish_reason="tool_calls")
    deltas = [event["delta"] for event in events if event["type"] == "response.custom_tool_call_input.delta"]
    assert deltas == ["print", "(", '"1")']
    (done,) = [event for event in events if event["type"] == "response.custom_tool_call_input.done"]
    assert done["input"] == 'print("1")'
    run, look = events[-1]["response"]["output"]
    assert (run["type"], run["input"], look["type"]) == ("custom_tool_call", 'print("1")', "function_call")


def test_what_a_custom_tool_is_called_with_in_other_words_is_its_text_as_it_is() -> None:
    events = streamed({"tool_calls": [call("run", '{"code": "1"}') | {"index": 0}]})
    (delta,) = [event for event in events if event["type"].endswith("custom_tool_call_input.delta")]
    assert delta["delta"] == events[-1]["response"]["output"][0]["input"] == '{"code": "1"}'
