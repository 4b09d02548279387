"""What an answer's bytes say of its tokens, and what of them the client sees."""

import asyncio
from collections.abc import AsyncIterator

import orjson
import pytest

from experts.errors import EngineLost
from server.exchange.answer.token_counter import TokenCounter

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}


def event(**fields: object) -> bytes:
    return b"data: " + orjson.dumps(fields) + b"\n\n"


TEXT = event(choices=[{"delta": {"content": 'she said "usage":{'}}])
LAST = event(choices=[], usage=USAGE)
DONE = b"data: [DONE]\n\n"


async def passed(token_counter: TokenCounter, *chunks: bytes, keep: bool = False) -> bytes:
    async def come() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return b"".join([chunk async for chunk in token_counter.stream(come(), keep=keep)])


@pytest.mark.parametrize(
    "chunks", [(TEXT, TEXT, LAST, DONE), (TEXT + TEXT + LAST + DONE,), (TEXT + TEXT, LAST + DONE)]
)
@pytest.mark.parametrize("keep", [True, False])
async def test_the_usage_is_read_and_left_out_unless_asked_for(chunks: tuple[bytes, ...], keep: bool) -> None:
    token_counter = TokenCounter()
    seen = await passed(token_counter, *chunks, keep=keep)
    assert seen == TEXT + TEXT + (LAST if keep else b"") + DONE
    assert (token_counter.prompt_tokens, token_counter.completion_tokens, token_counter.cached_tokens) == (
        7,
        3,
        4,
    )
    assert token_counter.exact


async def test_usage_that_comes_with_every_event_passes() -> None:
    with_usage = event(
        choices=[{"delta": {"content": "a"}}], usage={"prompt_tokens": 7, "completion_tokens": 1}
    )
    token_counter = TokenCounter()
    assert await passed(token_counter, with_usage, LAST, DONE) == with_usage + DONE
    assert token_counter.completion_tokens == 3


ENDS = event(choices=[{"delta": {}, "finish_reason": "stop"}])
MARKED = event(choices=[{"delta": {}, "finish_reason": "stop"}], system_fingerprint="f1")
LAST_MARKED = event(choices=[], usage=USAGE, system_fingerprint="f1")


@pytest.mark.parametrize(
    "chunks",
    [
        (TEXT, ENDS, LAST_MARKED, DONE),
        (TEXT, ENDS, LAST_MARKED + DONE),
        (TEXT, ENDS + LAST_MARKED, DONE),
        (TEXT + ENDS + LAST_MARKED + DONE,),
    ],
)
async def test_the_fingerprint_of_an_event_that_is_left_out_goes_to_the_one_before(
    chunks: tuple[bytes, ...],
) -> None:
    assert await passed(TokenCounter(), *chunks) == TEXT + MARKED + DONE
    assert await passed(TokenCounter(), *chunks, keep=True) == b"".join(chunks)


async def test_of_several_choices_the_one_that_ends_last_takes_the_fingerprint() -> None:
    assert await passed(TokenCounter(), ENDS, TEXT, ENDS, ENDS, LAST_MARKED, DONE) == (
        ENDS + TEXT + ENDS + MARKED + DONE
    )


async def test_an_answer_cut_off_where_it_ends_is_passed_whole() -> None:
    assert await passed(TokenCounter(), TEXT, ENDS) == TEXT + ENDS
    assert (
        await passed(TokenCounter(), TEXT, ENDS, LAST, DONE) == TEXT + ENDS + DONE
    )  # vLLM says no fingerprint


@pytest.mark.parametrize("error", [EngineLost, asyncio.CancelledError])
async def test_the_piece_that_waits_for_the_fingerprint_comes_before_an_error(
    error: type[BaseException],
) -> None:
    async def come() -> AsyncIterator[bytes]:
        yield TEXT
        yield ENDS
        raise error

    passing = TokenCounter().stream(come(), keep=False)
    assert [await anext(passing), await anext(passing)] == [TEXT, ENDS]
    with pytest.raises(error):
        await anext(passing)


async def test_an_answer_cut_off_has_as_many_tokens_as_came() -> None:
    token_counter = TokenCounter()
    await passed(token_counter, TEXT, TEXT + TEXT)
    assert (token_counter.completion_tokens, token_counter.exact) == (3, False)


def test_a_whole_answer_is_counted_and_given_back() -> None:
    body = orjson.dumps({"choices": [], "usage": USAGE})
    token_counter = TokenCounter()
    assert token_counter.whole(body) is body
    assert (token_counter.prompt_tokens, token_counter.completion_tokens, token_counter.cached_tokens) == (
        7,
        3,
        4,
    )


@pytest.mark.parametrize("body", [b'{"count":3}', b'{"usage":{}}', b'{"usage":{"prompt_tokens":null}}'])
def test_an_answer_without_counts_has_none(body: bytes) -> None:
    token_counter = TokenCounter()
    token_counter.whole(body)
    assert token_counter.completion_tokens == 0


TIMES = {"time_to_first_token_ms": 250.0, "queue_time_ms": 1500.0, "speculative_decoding": {"drafts": 2}}


@pytest.mark.parametrize("keep", [True, False])
async def test_the_engines_times_are_read_and_kept_from_the_client(keep: bool) -> None:
    token_counter = TokenCounter()
    timed = event(choices=[], usage=USAGE, metrics=TIMES)
    assert await passed(token_counter, TEXT, timed, DONE, keep=keep) == TEXT + (LAST if keep else b"") + DONE
    assert (token_counter.queue_seconds, token_counter.prefill_seconds) == (1.5, 0.25)


def test_a_whole_answer_is_what_it_is_without_the_engines_times() -> None:
    said = {"choices": [{"message": {"content": 'é ,"metrics":{"queue_time_ms":9}'}}], "usage": USAGE}
    token_counter = TokenCounter()
    whole = token_counter.whole(orjson.dumps({**said, "metrics": TIMES, "more": "é"}))
    assert whole == orjson.dumps({**said, "metrics": None, "more": "é"})
    assert (token_counter.queue_seconds, token_counter.prefill_seconds) == (1.5, 0.25)
    without = TokenCounter()
    assert without.whole(whole) == whole
    assert without.queue_seconds is None
