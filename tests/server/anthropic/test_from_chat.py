"""An engine's scripted answer to a chat completion, whole and streamed, as Anthropic's message."""

import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experts.errors import EngineError, EngineLost
from server.anthropic.from_chat import message
from server.anthropic.messages import MESSAGES, StreamedMessage
from server.error_table import Failure

USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 4,
    "prompt_tokens_details": {"cached_tokens": 6, "created_cache_tokens": 1},
}
COUNTED = {
    "input_tokens": 3,
    "cache_creation_input_tokens": 1,
    "cache_read_input_tokens": 6,
    "output_tokens": 4,
}


def call(name: str, arguments: str, number: int = 0) -> dict[str, Any]:
    return {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": arguments}}


def completion(finish: str = "stop", matched: str | int | None = None, **said: Any) -> dict[str, Any]:
    spoken = {"role": "assistant", "content": None, "reasoning": None, "tool_calls": []} | said
    choice = {"index": 0, "message": spoken, "finish_reason": finish, "stop_reason": matched}
    return {"id": "chatcmpl-1", "model": "law", "choices": [choice], "usage": USAGE}


def chunk(finish: str | None = None, matched: str | int | None = None, **delta: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, "stop_reason": matched}
    usage = {"prompt_tokens": 10, "completion_tokens": 0}
    return {"id": "chatcmpl-1", "model": "law", "choices": [choice], "usage": usage}


def pieces(text: str, cuts: Iterable[int]) -> list[str]:
    ends = sorted({min(cut, len(text)) for cut in cuts} | {len(text)})
    return [text[begin:end] for begin, end in zip([0, *ends], ends, strict=False) if begin < end]


def chunks(whole: dict[str, Any], cuts: Iterable[int]) -> list[dict[str, Any]]:
    """``whole`` as vLLM streams it: the role, thoughts, text, calls, the reason, the usage."""
    choice = whole["choices"][0]
    said = choice["message"]
    made = [chunk(role="assistant", content="")]
    made += [chunk(reasoning=piece) for piece in pieces(said["reasoning"] or "", cuts)]
    made += [chunk(content=piece) for piece in pieces(said["content"] or "", cuts)]
    for number, called in enumerate(said["tool_calls"]):
        function = called["function"]
        first = {
            "index": number,
            "id": called["id"],
            "type": "function",
            "function": {"name": function["name"]},
        }
        made.append(chunk(tool_calls=[first]))
        for piece in pieces(function["arguments"], cuts):
            made.append(chunk(tool_calls=[{"index": number, "function": {"arguments": piece}}]))
    made.append(chunk(choice["finish_reason"], choice["stop_reason"]))
    return [*made, {"id": "chatcmpl-1", "model": "law", "choices": [], "usage": whole["usage"]}]


async def sse(trees: Iterable[Any]) -> AsyncIterator[bytes]:
    for tree in trees:
        yield b"data: " + orjson.dumps(tree) + b"\n\n"
    yield b"data: [DONE]\n\n"


def message_of(chunks: AsyncIterator[bytes]) -> StreamedMessage:
    return StreamedMessage(chunks, "msg_1", "r1")


async def read(stream: AsyncIterator[bytes], into: list[bytes]) -> None:
    async for part in stream:
        into.append(part)


async def streamed(trees: Iterable[Any]) -> list[dict[str, Any]]:
    """The events' data. Asserts their framing."""
    raw = b"".join([part async for part in message_of(sse(trees)).events()]).decode()
    assert raw.endswith("\n\n")
    events = []
    for block in raw[:-2].split("\n\n"):
        named, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert named == f"event: {event['type']}"
        events.append(event)
    return events


def assembled(events: list[dict[str, Any]]) -> dict[str, Any]:
    """As a client puts a message together. Asserts that each event may come where it does."""
    assert [event["type"] for event in events[:2]] == ["message_start", "ping"]
    assert [event["type"] for event in events[-2:]] == ["message_delta", "message_stop"]
    made: dict[str, Any] = events[0]["message"]
    inputs = ""
    open_block = False
    for event in events[2:-2]:
        match event["type"]:
            case "content_block_start":
                assert not open_block
                assert event["index"] == len(made["content"])
                made["content"].append(event["content_block"])
                open_block, inputs = True, ""
            case "content_block_delta":
                assert open_block
                assert event["index"] == len(made["content"]) - 1
                block, delta = made["content"][-1], event["delta"]
                match delta["type"]:
                    case "text_delta":
                        block["text"] += delta["text"]
                    case "thinking_delta":
                        block["thinking"] += delta["thinking"]
                    case "signature_delta":
                        block["signature"] = delta["signature"]
                    case "input_json_delta":
                        inputs += delta["partial_json"]
                    case other:
                        raise AssertionError(other)
            case "content_block_stop":
                assert open_block
                open_block = False
                if made["content"][-1]["type"] == "tool_use":
                    made["content"][-1]["input"] = json.loads(inputs or "{}")
            case other:
                raise AssertionError(other)
    assert not open_block
    made |= events[-2]["delta"] | {"usage": events[-2]["usage"]}
    return made


ARGUMENTS = st.dictionaries(st.text(max_size=5), st.text(max_size=9), max_size=3).map(json.dumps)
COMPLETIONS = st.builds(
    completion,
    finish=st.sampled_from(["stop", "length", "tool_calls", "content_filter"]),
    matched=st.sampled_from([None, "END", 2]),
    reasoning=st.none() | st.text(max_size=20),
    content=st.none() | st.text(max_size=20),
    tool_calls=st.lists(ARGUMENTS | st.just(""), max_size=3).map(
        lambda all_of: [call("weather", arguments, number) for number, arguments in enumerate(all_of)]
    ),
)


@settings(deadline=None)
@given(COMPLETIONS, st.lists(st.integers(1, 20), max_size=5))
async def test_plain_and_streamed_answers_are_the_same_message(
    whole: dict[str, Any], cuts: list[int]
) -> None:
    plain = message("msg_1", whole)
    put_together = assembled(await streamed(chunks(whole, cuts)))
    assert put_together | {"id": "msg_1"} == plain


def test_a_message_has_its_blocks_in_order() -> None:
    whole = completion(
        "tool_calls", reasoning="hm", content="Look:", tool_calls=[call("weather", '{"a": 1}')]
    )
    assert message("msg_1", whole) == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "law",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "unsigned"},
            {"type": "text", "text": "Look:"},
            {"type": "tool_use", "id": "call_0", "name": "weather", "input": {"a": 1}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": COUNTED,
    }


async def test_a_stream_is_these_bytes() -> None:
    trees = chunks(completion(content="Hi."), [])
    parts = [part async for part in message_of(sse(trees)).events()]
    raw = b"".join(parts).decode()
    identity = json.loads(raw.split("data: ")[1].split("\n")[0])["message"]["id"]
    assert identity.startswith("msg_")
    usage = '"cache_creation_input_tokens":%d,"cache_read_input_tokens":%d,"output_tokens":%d}'
    assert raw == (
        'event: message_start\ndata: {"type":"message_start","message":{"id":"' + identity + '",'
        '"type":"message","role":"assistant","model":"law","content":[],"stop_reason":null,'
        '"stop_sequence":null,"usage":{"input_tokens":10,' + usage % (0, 0, 0) + "}}\n\n"
        'event: ping\ndata: {"type":"ping"}\n\n'
        'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
        '"content_block":{"type":"text","text":""}}\n\n'
        'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
        '"delta":{"type":"text_delta","text":"Hi."}}\n\n'
        'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
        'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn",'
        '"stop_sequence":null},"usage":{"input_tokens":3,' + usage % (1, 6, 4) + "}\n\n"
        'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    )


@pytest.mark.parametrize(
    ("finish", "matched", "said", "reason", "sequence"),
    [
        ("stop", None, {"content": "a"}, "end_turn", None),
        ("stop", 2, {"content": "a"}, "end_turn", None),
        ("stop", "END", {"content": "a"}, "stop_sequence", "END"),
        ("length", None, {"content": "a"}, "max_tokens", None),
        ("content_filter", None, {"content": "a"}, "refusal", None),
        ("tool_calls", None, {"tool_calls": [call("w", "{}")]}, "tool_use", None),
        ("stop", None, {"tool_calls": [call("w", "{}")]}, "tool_use", None),
        ("stop", "END", {"tool_calls": [call("w", '{"a": 1}')]}, "tool_use", None),
        ("stop", "END", {"tool_calls": [call("w", '{"a": "1')]}, "stop_sequence", "END"),
    ],
)
def test_why_it_ended(
    finish: str, matched: str | int | None, said: dict[str, Any], reason: str, sequence: str | None
) -> None:
    made = message("msg_1", completion(finish, matched, **said))
    assert (made["stop_reason"], made["stop_sequence"]) == (reason, sequence)


def test_an_input_that_was_cut_off_is_what_there_is_of_it() -> None:
    whole = completion("length", tool_calls=[call("w", '{"city": "Rom", "day": "Mon')])
    assert message("msg_1", whole)["content"][0]["input"] == {"city": "Rom"}


@pytest.mark.parametrize("arguments", ["{city}", "[1]", "null"])
def test_an_input_that_is_no_object_is_the_engine_s_failure(arguments: str) -> None:
    with pytest.raises(EngineError, match="'w' with what is no JSON object"):
        message("msg_1", completion("tool_calls", tool_calls=[call("w", arguments)]))


async def test_what_is_said_after_a_tool_was_called_comes_last() -> None:
    trees = chunks(completion("tool_calls", tool_calls=[call("w", '{"a": 1}')]), [4])
    trees.insert(3, chunk(content=" so"))
    trees.insert(3, chunk(content="\n"))
    blocks = assembled(await streamed(trees))["content"]
    assert [block["type"] for block in blocks] == ["tool_use", "text"]
    assert blocks[0]["input"] == {"a": 1}
    assert blocks[1]["text"] == "\n so"
    trees[4] = chunk(content=" ")
    assert [block["type"] for block in assembled(await streamed(trees))["content"]] == ["tool_use"]


async def test_a_call_that_goes_on_after_the_next_one_is_the_engine_s_failure() -> None:
    started = [{"index": n, "id": f"c{n}", "function": {"name": "w", "arguments": ""}} for n in (0, 1)]
    late = {"index": 0, "function": {"arguments": "{}"}}
    with pytest.raises(EngineError, match="had ended"):
        await streamed([chunk(tool_calls=started), chunk(tool_calls=[late])])


async def test_comments_and_several_events_at_once_are_read() -> None:
    async def together() -> AsyncIterator[bytes]:
        parts = [part async for part in sse(chunks(completion(content="Hi."), [1]))]
        yield b": keep-alive\n\n"
        yield b"".join(parts)

    raw = b"".join([part async for part in message_of(together()).events()])
    assert raw.count(b"text_delta") == 2
    assert raw.endswith(b'data: {"type":"message_stop"}\n\n')


async def test_an_engine_that_is_lost_is_told_after_all_it_said() -> None:
    called = {"index": 0, "id": "c0", "function": {"name": "w", "arguments": "{}"}}

    async def lost() -> AsyncIterator[bytes]:
        for piece in (chunk(tool_calls=[called]), chunk(content="held back")):
            yield b"data: " + orjson.dumps(piece) + b"\n\n"
        raise EngineLost("gone")

    parts: list[bytes] = []
    with pytest.raises(EngineLost):
        await read(message_of(lost()).events(), parts)
    assert b'{"type":"text_delta","text":"held back"}' in parts[-1]
    assert b"message_stop" not in parts[-1]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (409, "invalid_request_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
    ],
)
def test_an_error_has_anthropic_s_type(status: int, kind: str) -> None:
    failure = Failure(status, "no", "server_error")
    body = {"type": "error", "error": {"type": kind, "message": "no"}, "request_id": "r1"}
    assert json.loads(MESSAGES.error_body(failure, "r1")) == body
    event = b"event: error\ndata: " + MESSAGES.error_body(failure, "r1") + b"\n\n"
    assert MESSAGES.error_event(failure, "r1") == event
