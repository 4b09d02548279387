"""Every answer of the gateway says which request it answers, over real sockets."""

import asyncio
import contextlib
from dataclasses import replace
from urllib.parse import urlsplit

import orjson
import pytest
from pydantic import SecretStr

from server.config.limits import LimitsConfig
from server.config.settings import Settings
from server.transport.request_id import request_id
from tests.server.conftest import Gateway, Serving, changed, chat, until
from tests.server.wire import HOST, JSON, get, post, wire

CHAT = orjson.dumps(chat(max_tokens=3))
STREAM = orjson.dumps(chat(max_tokens=3, stream=True))
MINE = b"X-Request-ID: mine-1\r\n"
ORIGIN = b"Origin: https://page.example\r\n"
ANSWERED = {
    "a chat": post(CHAT, more=MINE),
    "a stream": post(STREAM, more=MINE),
    "a message": post(
        b'{"model": "law", "max_tokens": 1, "messages": [{"role": "user", "content": "a"}]}',
        b"/v1/messages",
        MINE,
    ),
    "a refused chat": post(b"{}", more=MINE),
    "the models": get(b"/v1/models", MINE),
    "a model": get(b"/v1/models/law", MINE),
    "no model": get(b"/v1/models/nobody", MINE),
    "health": get(b"/health", MINE),
    "metrics": get(b"/metrics", MINE),
    "the files": get(b"/v1/files", MINE),
    "the batches": get(b"/v1/batches", MINE),
    "no response": get(b"/v1/responses/resp_1", MINE),
    "usage": get(b"/v1/coe/usage", MINE),
    "tiers": get(b"/v1/coe/tiers", MINE),
    "a route": post(CHAT, b"/v1/coe/route", MINE),
    "feedback": post(b"{}", b"/v1/coe/feedback", MINE),
    "no path": get(b"/nothing", MINE),
    "another method": get(b"/v1/chat/completions", MINE),
    "a wrong parameter": get(b"/v1/files?limit=many", MINE),
    "a page's question": b"OPTIONS /v1/models HTTP/1.1\r\n%b%b%bAccess-Control-Request-Method: GET\r\n\r\n"
    % (HOST, MINE, ORIGIN),
    "no host": b"GET /health HTTP/1.1\r\n" + MINE + b"\r\n",
    "a bad chunk": b"POST /v1/chat/completions HTTP/1.1\r\n%b%b%bTransfer-Encoding: chunked\r\n\r\n1 \r\n"
    % (HOST, JSON, MINE),
    "an endless header": get(b"/health", MINE + b"X-Long: %b\r\n" % (b"x" * 100_000)),
}


async def replied(gateway: Gateway, request: bytes) -> list[bytes]:
    """The ids in the answer's headers."""
    parts = urlsplit(gateway.url)
    async with asyncio.timeout(30):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        with contextlib.closing(writer):
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
    lines = [line.partition(b": ") for line in head.split(b"\r\n")]
    return [value for name, _, value in lines if name.lower() == b"x-request-id"]


async def test_every_answer_has_the_clients_id_once(serving: Serving, settings: Settings) -> None:
    async with serving(changed(settings, cors_origins=("https://page.example",))) as gateway:
        for name, request in ANSWERED.items():
            assert (name, await replied(gateway, request)) == (name, [b"mine-1"])
            (made,) = await replied(gateway, request.replace(MINE, b""))
            assert (name, len(made)) == (name, 32)


async def test_who_is_not_let_in_hears_an_id_too(serving: Serving, settings: Settings) -> None:
    locked = changed(settings, api_keys=(SecretStr("secret"),), limits=LimitsConfig(connections=2))
    async with serving(locked) as gateway:
        for path in (b"/v1/models", b"/v1/files", b"/v1/coe/usage", b"/v1/responses/resp_1"):
            assert await replied(gateway, get(path, MINE)) == [b"mine-1"]
        gateway.server.stop()
        assert await replied(gateway, get(b"/v1/models", MINE)) == [b"mine-1"]


async def test_one_connection_too_many_is_refused_with_an_id(serving: Serving, settings: Settings) -> None:
    async with serving(changed(settings, limits=LimitsConfig(connections=1))) as gateway:
        async with wire(gateway.url) as first:
            await first.send(get())
            assert await first.reply()
            (made,) = await replied(gateway, b"")
        assert len(made) == 32
        await until(lambda: not gateway.server.server_state.connections)


async def test_a_failure_of_ours_has_the_requests_id(serving: Serving, settings: Settings) -> None:
    async with serving(settings) as gateway:
        broken = replace(gateway.services.catalog, experts={})  # so that the list of models raises
        gateway.services.catalog, whole = broken, gateway.services.catalog
        answer = await gateway.http.get("/v1/models", headers={"x-request-id": "mine-1"})
        gateway.services.catalog = whole
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
        assert answer.headers.get_list("x-request-id") == ["mine-1"]


async def test_ids_do_not_go_from_one_request_of_a_connection_to_the_next(
    serving: Serving, settings: Settings
) -> None:
    async with serving(settings) as gateway, wire(gateway.url) as connection:
        for more, expected in ((MINE, "mine-1"), (b"", ""), (b"X-Request-ID: other\r\n", "other")):
            await connection.send(get(more=more))
            reply = await connection.reply()
            assert reply is not None
            assert reply.headers["x-request-id"] != "mine-1" or expected == "mine-1"
            assert not expected or reply.headers["x-request-id"] == expected
        await connection.send(b"no HTTP at all\r\n\r\n")
        reply = await connection.reply()
        assert reply is not None
        assert reply.headers["x-request-id"] not in ("mine-1", "other")


@pytest.mark.parametrize("given", [b"", b"a b", b"x" * 129, b"\xff", b"a\x1b"])
def test_what_cannot_stand_in_a_log_is_replaced(given: bytes) -> None:
    assert len(request_id([(b"x-request-id", given)])) == 32
    assert request_id([(b"other", b"a"), (b"x-request-id", b"b")]) == "b"
