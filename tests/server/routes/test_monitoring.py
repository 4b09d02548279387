"""Monitors may use HEAD as well as GET, and log lines name the key and peer of a request."""

import logging

import pytest

from server.config.settings import Settings
from tests.server.access.test_keys import MINE, keyed
from tests.server.conftest import Serving, chat
from tests.server.wire import HOST, get, wire


@pytest.mark.parametrize(
    "path", ["/health", "/ready", "/metrics", "/v1/models", "/v1/models/law", "/openapi.json"]
)
async def test_head_is_answered_as_get_is_without_a_body(
    serving: Serving, settings: Settings, path: str
) -> None:
    async with serving(settings) as gateway, wire(gateway.url) as connection:
        whole = await gateway.http.get(path)
        await connection.send(b"HEAD %b HTTP/1.1\r\n%b\r\n" % (path.encode(), HOST))
        head = await connection.head()
        await connection.send(get())
        after = await connection.reply()
    assert head.status == whole.status_code == 200
    assert head.headers["content-type"] == whole.headers["content-type"]
    assert int(head.headers["content-length"]) > 0
    assert after is not None
    assert after.body == b'{"status":"ok"}', "no body came in front of it"


async def test_head_of_what_only_takes_a_post_is_405(serving: Serving, settings: Settings) -> None:
    async with serving(settings) as gateway:
        answer = await gateway.http.head("/v1/chat/completions")
        other = await gateway.http.delete("/health")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert (other.status_code, other.headers["allow"]) == (405, "GET, HEAD")


async def test_a_requests_line_has_its_key_and_where_it_came_from(
    serving: Serving, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "coe.requests")
    async with serving(keyed(settings)) as gateway:
        assert (await gateway.post(headers=MINE, max_tokens=1)).status_code == 200
        assert (await gateway.http.post("/v1/chat/completions", json=chat())).status_code == 401
    lines = [record.getMessage() for record in caplog.records if record.name == "coe.requests"]
    assert [line.partition(" seconds=")[2].partition(" ")[2] for line in lines] == [
        "key=me peer='127.0.0.1'",
        "key=- peer='127.0.0.1'",
    ]
