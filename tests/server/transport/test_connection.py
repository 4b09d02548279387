"""What a client may do with its connection, over a real socket."""

import asyncio
import socket
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest

from server.config.limits import LimitsConfig
from server.config.settings import Settings
from server.transport.connection import Connection
from tests.server.conftest import AS_JSON, Gateway, Serving, changed, chat, simulated, until
from tests.server.test_gateway import held, nothing_is_held
from tests.server.wire import HOST, JSON, get, post, wire

BODY = orjson.dumps(chat())
LONG = orjson.dumps(chat(model="general", stream=True, max_tokens=150_000, ignore_eos=True))


def limited(settings: Settings, **limits: Any) -> Settings:
    return changed(settings, limits=LimitsConfig(**limits))


CHUNKED = b"POST /v1/chat/completions HTTP/1.1\r\n" + HOST + JSON + b"Transfer-Encoding: chunked\r\n"
AMBIGUOUS = {
    "two equal lengths": post(BODY, more=b"Content-Length: %d\r\n" % len(BODY)),
    "two lengths": post(BODY, more=b"Content-Length: 3\r\n"),
    "a list of lengths": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 2, 2\r\n\r\n{}",
    "a signed length": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +2\r\n\r\n{}",
    "no length": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length:\r\n\r\n",
    "an endless length": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 99999999999999999999\r\n\r\n{}",
    "length and encoding": CHUNKED + b"Content-Length: 5\r\n\r\n0\r\n\r\n",
    "encoding and length": post(b"0\r\n\r\n", more=b"Transfer-Encoding: chunked\r\n"),
    "another encoding": b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "an encoding within": CHUNKED.replace(b"chunked", b"gzip, chunked") + b"\r\n0\r\n\r\n",
    "chunked twice": CHUNKED + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked in HTTP/1.0": CHUNKED.replace(b"1.1", b"1.0") + b"\r\n0\r\n\r\n",
    "a space before the colon": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length : 2\r\n\r\n{}",
    "a folded line": get(more=b"X-A: a\r\n b\r\n"),
    "bare line feeds": get().replace(b"\r\n", b"\n"),
    "a bare carriage return": get(more=b"X-A: a\rX-B: b\r\n"),
    "a zero byte": get(more=b"X-A: a\x00b\r\n"),
    "an escape": get(more=b"X-A: \x1b[2J\r\n"),
    "a chunk size too large": CHUNKED + b"\r\nfffffffffffffffff\r\n",
    "a chunk size with a space": CHUNKED + b"\r\n1 \r\na\r\n0\r\n\r\n",
    "a chunk longer than it says": CHUNKED + b"\r\n1\r\nabc\r\n0\r\n\r\n",
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "two hosts": get(more=HOST),
    "HTTP/2 without an agreement": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/2.0 in words": get().replace(b"1.1", b"2.0"),
    "HTTP/0.9": b"GET /\r\n\r\n",
    "a tunnel": b"CONNECT engine:80 HTTP/1.1\r\n" + HOST + b"\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(60),
    "bytes in the path": get(b"/\xff\xfe"),
}


@pytest.fixture
async def gateway(serving: Serving, settings: Settings) -> Any:
    small = limited(settings, headers="2KiB", header_count=20, url="1KiB", json_depth=20, messages=10)
    async with serving(small) as gateway:
        yield gateway


@pytest.mark.parametrize("what", AMBIGUOUS)
async def test_what_could_be_read_in_two_ways_is_refused_and_the_connection_closed(
    gateway: Gateway, what: str
) -> None:
    async with wire(gateway.url) as connection:
        await connection.send(AMBIGUOUS[what])
        reply = await connection.reply()
        assert reply is not None
        assert reply.status in (400, 501)
        assert reply.headers["connection"] == "close"
        assert reply.error["type"] == "invalid_request_error"
        assert await connection.closed() == b""
    await nothing_is_held(gateway)


async def test_what_is_allowed_though_seldom_is_answered(gateway: Gateway) -> None:
    chunks = b"\r\n%x;a=b\r\n%b\r\n0\r\nAuthorization: Bearer trailer\r\n\r\n" % (len(BODY), BODY)
    async with wire(gateway.url) as connection:
        for raw in (CHUNKED + chunks, post(BODY), b"\r\n" + get(), get(b"http://gateway/health")):
            await connection.send(raw)
            reply = await connection.reply()
            assert reply is not None
            assert reply.status == 200
    async with wire(gateway.url) as connection:  # as Java's client begins
        offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n"
        for _ in range(2):
            await connection.send(post(BODY, more=offer))
            reply = await connection.reply()
            assert reply is not None
            assert reply.status == 200


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (get(b"/" + b"a" * 1100), 414, "url_too_long"),
        (get(more=b"X-A: %b\r\n" % (b"a" * 2100)), 431, "headers_too_large"),
        (get(more=b"X-A: a\r\n" * 21), 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\nX-A: " + b"a" * 10_000, 431, "headers_too_large"),
        (b"GET /" + b"a" * 10_000, 431, "headers_too_large"),
        (post(b'{"a":' * 21 + b"1" + b"}" * 21), 400, None),
        (post(b"[" * 5000 + b"]" * 5000), 400, None),
        (post(orjson.dumps(chat(messages=[{"role": "user", "content": "a"}] * 11))), 400, None),
        (post(b"").replace(b"Length: 0", b"Length: 99999999999"), 413, "request_too_large"),
    ],
)  # fmt: skip
async def test_what_is_over_a_limit_is_refused(gateway: Gateway, raw: bytes, status: int, code: str) -> None:
    async with wire(gateway.url) as connection:
        await connection.send(raw)
        reply = await connection.reply()
        assert reply is not None
        assert (reply.status, reply.error["code"]) == (status, code)


async def test_depth_is_counted_where_brackets_are_and_not_in_texts(gateway: Gateway) -> None:
    for content in ("{[" * 50, '\\"[' * 50):
        answer = await gateway.post(messages=[{"role": "user", "content": content}])
        assert answer.status_code == 200
    wide = await gateway.post(metadata=[[{}] * 30] * 30)
    assert wide.status_code == 200


async def test_what_comes_before_the_answer_in_front_of_it_is_not_read(gateway: Gateway) -> None:
    async with wire(gateway.url) as connection:
        await connection.send(post(BODY) + get() * 1000)
        reply = await connection.reply()
        assert reply is not None
        assert reply.status == 200
        assert await connection.closed() == b""


@pytest.mark.parametrize("behind", [b"", get(), b"\x00"])
async def test_a_client_that_leaves_is_noticed_whatever_it_sent_behind_its_request(
    gateway: Gateway, behind: bytes
) -> None:
    async with wire(gateway.url) as connection:
        await connection.send(post(LONG) + behind)
        await until(lambda: held(gateway) == (0, 1))
    await nothing_is_held(gateway)


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"GET /health HTTP/1.1\r\nHost:", "The headers did not come within 0.01 s."),
        (post(BODY)[:-5], "The body came too slowly: less than 4096 bytes/s."),
    ],
)
async def test_a_client_that_stops_in_a_request_is_told_and_let_go(
    serving: Serving, settings: Settings, sent: bytes, said: str
) -> None:
    async with serving(settings) as gateway, wire(gateway.url) as connection:
        await connection.send(get())
        assert await connection.reply()
        (served,) = gateway.server.server_state.connections
        assert isinstance(served, Connection)
        served.limits = LimitsConfig(headers_s=0.01, body_s=0.01)  # counts from the next request's first byte
        await connection.send(sent)
        reply = await connection.reply()
        assert reply is not None
        assert (reply.status, reply.error["message"]) == (408, said)
        assert await connection.closed() == b""
        await nothing_is_held(gateway)


@pytest.mark.parametrize("sent", [b"", b"\r\n"])
async def test_a_client_that_asks_nothing_is_let_go_without_an_answer(
    serving: Serving, settings: Settings, sent: bytes
) -> None:
    async with serving(limited(settings, headers_s=0.01)) as gateway, wire(gateway.url) as connection:
        await connection.send(sent)
        assert await connection.closed() == b""
        await nothing_is_held(gateway)


async def test_a_slow_body_is_taken_while_it_keeps_the_rate(serving: Serving, settings: Settings) -> None:
    """Bytes that came extend the time-out from a hundredth of a second to a minute."""
    slow = limited(settings, body_s=0.01, body_rate="1B")
    async with serving(slow) as gateway, wire(gateway.url) as connection:
        raw = post(BODY)
        await connection.send(raw[:-10])
        await asyncio.sleep(0.05)  # the gateway is in this loop: its timer has come by then
        await connection.send(raw[-10:])
        reply = await connection.reply()
        assert reply is not None
        assert reply.status == 200


async def test_a_connection_without_a_request_is_closed(serving: Serving, settings: Settings) -> None:
    async with serving(limited(settings, idle_s=0.2)) as gateway, wire(gateway.url) as connection:
        await connection.send(get())
        reply = await connection.reply()
        assert reply is not None
        assert reply.status == 200
        assert await connection.closed() == b""


async def test_a_client_that_does_not_read_its_answer_loses_it(serving: Serving, settings: Settings) -> None:
    async with serving(limited(simulated(settings, tokens_per_s=1e6), stall_s=1)) as gateway:
        parts = urlsplit(gateway.url)
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect((parts.hostname, parts.port))
            client.sendall(post(LONG))
            await until(lambda: held(gateway) == (0, 1))
            await nothing_is_held(gateway)
        assert 'outcome="client_left"' in (await gateway.http.get("/metrics")).text


async def test_one_connection_too_many_is_told_so(serving: Serving, settings: Settings) -> None:
    async with serving(limited(settings, connections=2)) as gateway:
        await gateway.http.get("/health")
        async with wire(gateway.url) as second, wire(gateway.url) as third:
            await second.send(get())
            assert await second.reply() is not None
            reply = await third.reply()
            assert reply is not None
            assert (reply.status, reply.error["code"]) == (503, "overloaded")
            assert reply.headers["retry-after"] == "1"
            assert await third.closed() == b""


async def test_one_request_too_many_is_told_so_and_who_watches_is_answered(
    serving: Serving, settings: Settings
) -> None:
    async with serving(limited(settings, requests=1)) as gateway:
        async with gateway.http.stream(
            "POST", "/v1/chat/completions", content=LONG, headers=AS_JSON
        ) as answer:
            await anext(answer.aiter_bytes())
            refused = await gateway.post()
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
            assert (await gateway.http.get("/ready")).status_code == 200
        await nothing_is_held(gateway)
        assert (await gateway.post()).status_code == 200


async def test_bodies_that_are_too_large_together_are_refused_until_one_has_ended(
    serving: Serving, settings: Settings
) -> None:
    padding = "a" * 40_000
    async with serving(limited(settings, bodies="64KiB")) as gateway:
        long = chat(model="general", stream=True, max_tokens=150_000, ignore_eos=True, user=padding)
        async with gateway.http.stream("POST", "/v1/chat/completions", json=long) as answer:
            await anext(answer.aiter_bytes())
            refused = await gateway.post(user=padding)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
            assert refused.headers["retry-after"] == "1"
            assert (await gateway.post()).status_code == 200
        await nothing_is_held(gateway)
        assert (await gateway.post(user=padding)).status_code == 200
