"""An engine's scripted answer, whole and streamed, in Ollama's words."""

import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experts.errors import EngineError, EngineLost
from server.error_table import Failure
from server.ollama.from_chat import Lines, Timing, Wording, answer
from server.ollama.generating import StreamedLines
from tests.server.anthropic.test_from_chat import COMPLETIONS, call, chunk, chunks, completion, sse

CHAT, GENERATE = Wording("chat", "mine"), Wording("generate", "mine")


def timing(first: int | None = None) -> Timing:
    return Timing(began=1_000, loaded=100, first=first, clock=lambda: 2_000)


async def lines_of(events: AsyncIterator[bytes], wording: Wording = CHAT) -> list[dict[str, Any]]:
    """The lines. Asserts their framing, and that the last one alone says that it is."""
    stream = StreamedLines(events, Lines(wording, timing(300)))
    raw = b""
    async for part in stream.events():
        raw += part
        assert part == b"" or part.endswith(b"\n")
        assert stream.is_last(part) == (stream.lines.ended and part != b"")
    lines = [json.loads(each) for each in raw.decode().splitlines()]  # as httpx finds them
    assert raw.count(b"\n") == len(lines)
    assert [each["done"] for each in lines] == [False] * (len(lines) - 1) + [True]
    return lines


def together(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """As Ollama's clients put a message together."""
    messages = [each["message"] for each in lines]
    assert all(message["role"] == "assistant" for message in messages)
    return {
        "content": "".join(message["content"] for message in messages),
        "thinking": "".join(message.get("thinking", "") for message in messages),
        "tool_calls": [called for message in messages for called in message.get("tool_calls", [])],
        "done_reason": lines[-1]["done_reason"],
        "counts": (lines[-1]["prompt_eval_count"], lines[-1]["eval_count"]),
    }


@settings(deadline=None)
@given(COMPLETIONS, st.lists(st.integers(1, 20), max_size=5), st.lists(st.integers(1, 9), max_size=9))
async def test_plain_and_streamed_answers_say_the_same_however_the_stream_is_cut(
    whole: dict[str, Any], cuts: list[int], together_at: list[int]
) -> None:
    """``cuts``: of the texts; ``together_at``: how many events come at once."""

    async def arriving() -> AsyncIterator[bytes]:
        events = [event async for event in sse(chunks(whole, cuts))]
        for count in [*together_at, len(events)]:
            if events:
                yield b": a comment\n\n" + b"".join(events[:count])
            del events[:count]

    assert together(await lines_of(arriving())) == together([answer(CHAT, whole, timing())])


def test_a_whole_answer() -> None:
    called = completion("tool_calls", reasoning="hm", content="Look:", tool_calls=[call("w", '{"a": 1}')])
    made = answer(CHAT, called, timing())
    assert made.pop("created_at").endswith("Z")
    assert made == {
        "model": "mine",
        "message": {
            "role": "assistant",
            "content": "Look:",
            "thinking": "hm",
            "tool_calls": [{"id": "call_0", "function": {"index": 0, "name": "w", "arguments": {"a": 1}}}],
        },
        "done": True,
        "done_reason": "stop",
        "total_duration": 1000,
        "load_duration": 100,
        "prompt_eval_count": 10,
        "eval_count": 4,
        "eval_duration": 900,
    }


async def test_a_prompt_s_answer_is_a_response_chat_or_raw() -> None:
    lines = await lines_of(sse(chunks(completion(content="Hi.", reasoning="hm"), [2])), GENERATE)
    assert [each["response"] for each in lines] == ["", "Hi", ".", ""]
    assert lines[0]["thinking"] == "hm"
    assert lines[-1] | {"created_at": ""} == {
        "model": "mine",
        "created_at": "",
        "response": "",
        "done": True,
        "done_reason": "stop",
        "total_duration": 1000,
        "load_duration": 100,
        "prompt_eval_count": 10,
        "prompt_eval_duration": 200,
        "eval_count": 4,
        "eval_duration": 700,
    }
    raw = {"choices": [{"index": 0, "text": "Hi", "finish_reason": "length"}], "usage": None}
    assert answer(GENERATE, raw, timing())["response"] == "Hi"
    assert answer(GENERATE, raw, timing())["done_reason"] == "length"
    assert [each["response"] for each in await lines_of(sse([raw]), GENERATE)] == ["Hi", ""]


async def test_a_call_is_told_when_it_is_complete_and_what_was_cut_off_as_far_as_it_came() -> None:
    calls = [call("w", '{"a": 1}'), call("v", '{"b": 2, "c": "lo', 1)]
    lines = await lines_of(sse(chunks(completion("length", tool_calls=calls), [3])))
    told = [each["message"]["tool_calls"] for each in lines if "tool_calls" in each["message"]]
    assert [[called["function"]["arguments"] for called in each] for each in told] == [
        [{"a": 1}],
        [{"b": 2}],
    ]


async def test_log_probabilities_are_told_with_their_tokens() -> None:
    token = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [{"token": "b", "logprob": -1.0}]}
    piece = chunk(content="a")
    piece["choices"][0]["logprobs"] = {"content": [token]}
    first, _ = await lines_of(sse([piece]))
    other = {"token": "b", "logprob": -1.0, "bytes": None}
    assert first["logprobs"] == [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [other]}]


async def test_no_character_of_a_text_ends_a_line() -> None:
    odd = "a\u0085b\u2028c\u2029d\x0b\x1c\r\n"
    lines = await lines_of(sse(chunks(completion(content=odd), [3])))
    assert together(lines)["content"] == odd


async def test_a_tool_called_with_what_is_no_object_is_the_engine_s_failure() -> None:
    trees = chunks(completion("tool_calls", tool_calls=[call("w", "[1]")]), [])
    with pytest.raises(EngineError, match="'w' with what is no JSON object"):
        await lines_of(sse(trees))


async def test_an_engine_that_is_lost_is_told_in_a_line_after_all_it_said() -> None:
    async def lost() -> AsyncIterator[bytes]:
        yield b"data: " + orjson.dumps(chunk(content="so far")) + b"\n\n"
        raise EngineLost("gone")

    stream = StreamedLines(lost(), Lines(CHAT, timing(1)))
    parts: list[bytes] = []

    async def read(events: AsyncIterator[bytes]) -> Iterable[bytes]:
        async for part in events:
            parts.append(part)
        return parts

    with pytest.raises(EngineLost):
        await read(stream.events())
    assert json.loads(parts[-1])["message"]["content"] == "so far"
    assert not stream.is_last(parts[-1])
    failure = Failure(502, "It went away.", "server_error")
    assert stream.error_event(failure) == b'{"error":"It went away."}\n'
