"""A page whose name leads to the gateway (DNS rebinding) gets nothing, and no page's body is taken."""

import contextlib
import itertools
import socket
from typing import Any

import httpx
import pytest
from pydantic import SecretStr, ValidationError

from server.access.allowed_hosts import is_allowed, is_loopback
from server.config.settings import ServerConfig, Settings
from server.serve import operators_served
from server.transport.sockets import listen
from tests.server.access.test_keys import MINE, keyed
from tests.server.conftest import Gateway, Serving, changed, chat

EVIL = {"host": "evil.example:8000"}


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:8000", "127.0.0.1", "10.1.2.3:80", "[::1]:8000", "[fd00::1]", "localhost:8000",
        "LOCALHOST", "gateway", "gateway:8000", "coe.default.svc.cluster.local", "app.localhost:1",
        "node.internal", "localhost.", "", "chat.example.com", "CHAT.example.com:443", "a.b.example.org",
    ],
)  # fmt: skip
def test_names_that_nobody_can_have_in_public_and_those_of_the_configuration_are_allowed(host: str) -> None:
    assert is_allowed(host.encode(), ("chat.example.com", "*.example.org"))


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example",
        "example.org", "evilexample.org", "x.chat.example.com", "127.0.0.1@evil.example", "evil.example.",
        "1.2.3", "evil.localhost.example", "notlocal.evil-local.com",
    ],
)  # fmt: skip
def test_other_names_are_not(host: str) -> None:
    assert not is_allowed(host.encode(), ("chat.example.com", "*.example.org"))
    assert is_allowed(host.encode(), ("*",))


def test_the_machines_own_name_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "Box.example.net")
    assert is_allowed(b"box.example.net:8000", ())
    assert not is_allowed(b"box2.example.net:8000", ())


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_a_listener_on_the_loopback_is_known(host: str, loopback: bool) -> None:
    assert is_loopback(host) == loopback


async def statuses(gateway: Gateway, headers: dict[str, str]) -> list[int]:
    asked = [
        await gateway.http.post("/v1/chat/completions", json=chat(max_tokens=1), headers=headers),
        await gateway.http.get("/v1/models", headers=headers),
        await gateway.http.get("/health", headers=headers),
    ]
    return [answer.status_code for answer in asked]


@pytest.mark.parametrize(
    ("server", "headers", "status"),
    [
        ({}, EVIL, 421),
        ({}, {"host": "gateway:8000"}, 200),
        ({"host": "0.0.0.0"}, EVIL, 200),
        ({"allowed_hosts": ("evil.example",)}, EVIL, 200),
        ({"host": "0.0.0.0", "allowed_hosts": ("chat.example.com",)}, EVIL, 421),
        ({"allowed_hosts": ()}, EVIL, 421),
    ],
)
async def test_who_is_asked_by_another_name_does_not_answer(
    serving: Serving, settings: Settings, server: dict[str, Any], headers: dict[str, str], status: int
) -> None:
    async with serving(changed(settings, **server)) as gateway:
        assert await statuses(gateway, headers) == [status] * 3
        answer = await gateway.http.get("/v1/models", headers=headers)
        if status == 421:
            assert answer.json()["error"]["code"] == "host_not_allowed"
            assert "server.allowed_hosts" in answer.json()["error"]["message"]


async def test_where_a_key_is_needed_a_page_has_none_and_any_name_will_do(
    serving: Serving, settings: Settings
) -> None:
    async with serving(keyed(settings)) as gateway:
        assert await statuses(gateway, MINE | EVIL) == [200] * 3
    async with serving(changed(keyed(settings), allowed_hosts=())) as gateway:
        assert await statuses(gateway, MINE | EVIL) == [421] * 3


async def test_the_operators_listener_does_not_answer_either(serving: Serving, settings: Settings) -> None:
    for admin_key, status in ((None, 421), (SecretStr("of-admins"), 200)):
        async with serving(changed(settings, admin_port=0, admin_key=admin_key)) as gateway:
            with contextlib.closing(listen("127.0.0.1", 0)) as listener:
                url = f"http://127.0.0.1:{listener.getsockname()[1]}"
                async with (
                    operators_served(gateway.made, gateway.reload, listener),
                    httpx.AsyncClient(base_url=url) as http,
                ):
                    assert (await http.get("/metrics", headers=EVIL)).status_code == status
                    assert (await http.get("/metrics")).status_code == 200


async def test_without_an_admin_key_orders_are_taken_by_a_name_of_this_machine(
    serving: Serving, settings: Settings
) -> None:
    async with serving(changed(settings, host="0.0.0.0")) as gateway:
        assert (await gateway.http.get("/v1/coe/tiers")).status_code == 200
        assert (await gateway.http.get("/v1/coe/tiers", headers=EVIL)).status_code == 403


@pytest.mark.parametrize("name", ["Evil.example", "http://a.example", "a.example:80", "a.*.example", ""])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="is no host"):
        ServerConfig(allowed_hosts=(name,))


async def test_a_body_of_another_type_is_refused(serving: Serving, settings: Settings) -> None:
    """A browser lets any page send the first three, or none, without asking the gateway first."""
    types = (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/jsonp",
        None,
    )
    paths = ("/v1/chat/completions", "/v1/messages", "/v1/coe/route", "/v1/coe/experts/law/move")
    async with serving(settings) as gateway:
        for kind, path in itertools.product(types, paths):
            headers = {} if kind is None else {"content-type": kind}
            answer = await gateway.http.post(path, content=b'{"model": "law"}', headers=headers)
            assert (kind, path, answer.status_code) == (kind, path, 415)
            assert "application/json" in answer.text


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=utf-8", "application/json ;x=y"]
)
async def test_json_is_taken_however_it_is_written(serving: Serving, settings: Settings, kind: str) -> None:
    async with serving(settings) as gateway:
        answer = await gateway.http.post(
            "/v1/completions",
            content=b'{"model": "law", "prompt": "a", "max_tokens": 1}',
            headers={"content-type": kind},
        )
        assert answer.status_code == 200
