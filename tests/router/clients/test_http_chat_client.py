"""The real client over a real socket. No test waits: the sleep that is given only notes how long."""

import asyncio
import threading

import pytest

from router.clients.chat_client import Ask, Reply
from router.clients.http_chat_client import ATTEMPTS, HttpChat
from router.clients.openai_endpoint import Endpoint
from router.clients.rate_limiter import Pace
from router.errors import EndpointError, PromptRefused
from tests.router.embedders.scripted_endpoint import Call, Scripted, completion, failure, scripted

ASK = Ask("expert", "hello", 5)


class Waits:
    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(round(seconds))

    @property
    def long(self) -> list[float]:
        return [seconds for seconds in self.seconds if seconds > 0]


async def asked(url: str, key: str = "", waits: Waits | None = None, ask: Ask = ASK) -> Reply:
    endpoint = Endpoint.at(url, "COE_TEST_KEY", {"COE_TEST_KEY": key})
    async with HttpChat(endpoint, concurrency=2, sleep=waits or Waits()) as chat:
        return await chat.reply(ask)


async def test_a_completion_is_asked_for_greedily_and_read() -> None:
    with scripted(lambda call: completion("hi", "length")) as endpoint:
        reply = await asked(endpoint.url, "sesame", ask=Ask("expert", "hello", 5, "be kind"))
    assert reply == Reply("hi", cut=True, tokens_in=7, tokens_out=3)
    (call,) = endpoint.calls
    assert (call.path, call.authorization) == ("/v1/chat/completions", "Bearer sesame")
    assert call.body == {
        "model": "expert",
        "messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hello"}],
        "max_tokens": 5,
        "temperature": 0,
    }


async def test_an_answer_without_content_is_an_empty_one() -> None:
    with scripted(lambda call: completion(None)) as endpoint:
        assert (await asked(endpoint.url)).text == ""
    assert endpoint.calls[0].authorization is None


@pytest.mark.parametrize(
    ("said", "error", "complaint"),
    [
        (failure(401, "no such key"), EndpointError, r"wants a key; set COE_TEST_KEY \(no such key\)"),
        (failure(404, "no"), EndpointError, "has no model 'expert': no"),
        (Scripted(404), EndpointError, "is the address right"),
        (failure(429, "pay first", "insufficient_quota"), EndpointError, "answered 429 .* pay first"),
        (failure(429, "tomorrow", retry_after="86400"), EndpointError, "tomorrow; it asks to wait 86400 s"),
        (Scripted(301), EndpointError, "answered 301"),
        (Scripted(200, {"choices": []}), EndpointError, "something else than a chat completion"),
        (failure(400, "too long\nby far"), PromptRefused, "answered 400 .* too long by far$"),
    ],
)
async def test_what_cannot_be_mended_is_one_line_at_once(
    said: Scripted, error: type[EndpointError], complaint: str
) -> None:
    with scripted(lambda call: said) as endpoint, pytest.raises(error, match=complaint) as raised:
        await asked(endpoint.url)
    assert type(raised.value) is error
    assert "\n" not in str(raised.value)
    assert len(endpoint.calls) == 1


async def test_a_wrong_key_is_not_shown() -> None:
    with scripted(lambda call: failure(403, "no")) as endpoint, pytest.raises(EndpointError) as raised:
        await asked(endpoint.url, "sesame")
    assert "does not take the key in COE_TEST_KEY" in str(raised.value)
    assert "sesame" not in str(raised.value) + repr(Endpoint(endpoint.url, "COE_TEST_KEY", "sesame"))


async def test_a_busy_endpoint_is_asked_again_after_what_it_says() -> None:
    script = [failure(429, "slow down", retry_after="17"), failure(503, "loading"), completion("hi")]
    waits = Waits()
    with scripted(lambda call: script[len(endpoint.calls) - 1]) as endpoint:
        assert (await asked(endpoint.url, waits=waits)).text == "hi"
    assert waits.long[0] == 17
    assert len(endpoint.calls) == 3


async def test_an_endpoint_that_stays_busy_is_given_up() -> None:
    waits = Waits()
    with (
        scripted(lambda call: failure(503, "loading")) as endpoint,
        pytest.raises(EndpointError, match=r"answered 503 .* loading; given up after 6 attempts"),
    ):
        await asked(endpoint.url, waits=waits)
    assert len(endpoint.calls) == ATTEMPTS
    assert waits.long == [1, 2, 4, 8, 16]


async def test_an_endpoint_that_was_never_reached_is_one_line_at_once() -> None:
    with scripted(lambda call: completion("hi")) as endpoint:
        pass
    waits = Waits()
    with pytest.raises(EndpointError, match=rf"cannot reach {endpoint.url}/v1 \("):
        await asked(endpoint.url, waits=waits)
    assert waits.long == []


async def test_a_connection_that_breaks_is_made_again() -> None:
    script = [completion("hi"), Scripted(0), completion("hi again")]
    waits = Waits()
    with scripted(lambda call: script[len(endpoint.calls) - 1]) as endpoint:
        at = Endpoint.at(endpoint.url, "COE_TEST_KEY", {})
        async with HttpChat(at, concurrency=1, sleep=waits) as chat:
            await chat.reply(ASK)
            assert (await chat.reply(ASK)).text == "hi again"
    assert waits.long == [1]


async def test_so_many_calls_are_under_way_and_no_more() -> None:
    both, gate = threading.Barrier(2), threading.Lock()
    under_way = most = 0

    def answer(call: Call) -> Scripted:
        nonlocal under_way, most
        with gate:
            under_way += 1
            most = max(most, under_way)
        both.wait(timeout=30)
        with gate:
            under_way -= 1
        return completion("hi")

    with scripted(answer) as endpoint:
        at = Endpoint.at(endpoint.url, "COE_TEST_KEY", {})
        async with HttpChat(at, concurrency=2) as chat:
            await asyncio.gather(*(chat.reply(ASK) for _ in range(6)))
    assert most == 2


def test_calls_start_evenly_and_none_before_the_endpoint_wants() -> None:
    pace = Pace(per_minute=30)
    assert [pace.start(10.0), pace.start(10.0), pace.start(11.0)] == [10.0, 12.0, 14.0]
    pace.hold(60.0)
    assert [pace.start(20.0), pace.start(70.0)] == [60.0, 70.0]
    assert [Pace().start(1.0), Pace().start(1.0)] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://here:8000", "http://here:8000/v1"),
        ("http://here:8000/v1/", "http://here:8000/v1"),
        ("https://there/api/openai", "https://there/api/openai"),
        ("http://[::1]:80", "http://[::1]/v1"),
    ],
)
def test_an_address_is_taken_as_people_write_it(given: str, url: str) -> None:
    assert Endpoint.at(given, "KEY", {}).url == url


@pytest.mark.parametrize("given", ["", "here:8000", "ftp://here", "http://", "http://here:x", "/v1"])
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(EndpointError, match="is no address"):
        Endpoint.at(given, "KEY", {})


def test_a_key_in_the_address_is_refused_and_not_shown() -> None:
    with pytest.raises(EndpointError, match="set KEY instead") as raised:
        Endpoint.at("http://me:sesame@here", "KEY", {})
    assert "sesame" not in str(raised.value)
