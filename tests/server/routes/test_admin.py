"""What operators see and order over HTTP, on a real socket over simulated engines."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from starlette.requests import Request

from experts.checkpoints.prepare import prepare
from memory_tiers.status import ExpertStatus
from server.access.auth import Keys, check_operator
from server.config.api_keys import KeyRing
from server.config.settings import ServerConfig, Settings
from server.errors import Forbidden
from server.operator_api import Snapshot
from tests.server.conftest import AS_JSON, EXPERTS, Gateway, Serving, changed, chat, settled, simulated, until

ADMIN, CLIENT = {"authorization": "Bearer of-admins"}, {"authorization": "Bearer of-clients"}


async def order(gateway: Gateway, path: str, **body: Any) -> httpx.Response:
    return await gateway.http.post(f"/v1/coe/experts/{path}", json=body or None)


async def snapshot(gateway: Gateway) -> Snapshot:
    return Snapshot.model_validate_json((await gateway.http.get("/v1/coe/tiers")).content)


def status(gateway: Gateway, expert: str) -> ExpertStatus:
    return next(each for each in gateway.services.tiers.status() if each.expert == expert)


async def test_the_snapshot_has_tiers_engines_experts_and_moves(serving: Serving, settings: Settings) -> None:
    async with serving(settings) as gateway:
        seen = await snapshot(gateway)
        tiers = gateway.services.tiers
        assert seen.tiers == tiers.usage()
        assert seen.engines == tiers.readiness.engines
        assert seen.experts == tiers.status()
        assert seen.moves == ()
        assert [expert.expert for expert in seen.experts if expert.tier == "device"] == ["general"]


async def test_the_wire_is_described(serving: Serving, settings: Settings) -> None:
    async with serving(settings) as gateway:
        described = (await gateway.http.get("/openapi.json")).json()
        schemas = described["components"]["schemas"]
        assert "failure" in schemas["ExpertStatus"]["properties"]
        assert set(schemas["Snapshot"]["properties"]) == {"tiers", "engines", "experts", "moves"}
        demote = described["paths"]["/v1/coe/experts/{name}/demote"]["post"]
        body = demote["requestBody"]["content"]["application/json"]["schema"]
        assert body["properties"]["tier"]["enum"] == ["host", "disk"]


async def test_an_expert_is_sent_through_all_tiers(serving: Serving, settings: Settings) -> None:
    async with serving(settings) as gateway:
        for path, body, tier in (
            ("law/load", {}, "device"),
            ("law/demote", {}, "host"),
            ("law/demote", {"tier": "disk"}, "disk"),
            ("law/move", {"tier": "host"}, "host"),
            ("law/move", {"tier": "device"}, "device"),
            ("law/move", {"tier": "disk"}, "disk"),
        ):
            answer = await order(gateway, path, **body)
            assert answer.status_code == 202
            await settled(gateway)
            assert status(gateway, "law").tier == tier, path


async def test_an_order_is_answered_before_it_is_carried_out_and_its_move_is_seen(
    serving: Serving, settings: Settings
) -> None:
    async with serving(simulated(settings, load_bytes_per_s=2000)) as gateway:
        ordered = (await order(gateway, "law/load")).json()
        assert (ordered["ordered"], ordered["tier"]) == ("device", "disk")
        await until(lambda: status(gateway, "law").device == "arriving")
        seen = await snapshot(gateway)
        move = seen.move("law")
        assert move is not None
        assert (move.source, move.target, move.reason) == ("host", "device", "operator")
        assert seen.tiers[0].reserved_bytes == status(gateway, "law").device_bytes > 0


async def test_a_pinned_expert_is_loaded_and_stays_until_it_is_unpinned(
    serving: Serving, settings: Settings
) -> None:
    async with serving(settings) as gateway:
        assert (await order(gateway, "law/pin")).json()["pinned"]
        await settled(gateway)
        for name in EXPERTS:
            await gateway.post(model=name)
        assert status(gateway, "law").tier == "device"
        refused = await order(gateway, "law/demote")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "order_refused")
        assert "unpin it first" in refused.json()["error"]["message"]
        assert not (await order(gateway, "law/unpin")).json()["pinned"]
        assert (await order(gateway, "law/demote")).status_code == 202


async def test_what_the_budget_cannot_hold_is_not_pinned(serving: Serving, settings: Settings) -> None:
    async with serving(settings) as gateway:
        await order(gateway, "law/pin")
        refused = await order(gateway, "math/pin")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "budget_too_small")
        assert "2,500 bytes" in refused.json()["error"]["message"]
        assert not status(gateway, "math").pinned


async def test_cancelling_a_slow_load_rejects_who_waits_and_gives_the_memory_back(
    serving: Serving, settings: Settings
) -> None:
    async with serving(simulated(settings, load_bytes_per_s=2000)) as gateway:
        waiting = asyncio.create_task(gateway.post(model="law"))
        await until(lambda: status(gateway, "law").device == "arriving")
        assert (await order(gateway, "law/cancel")).json()["waiting"] == 0
        answer = await waiting
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "load_cancelled")
        await settled(gateway)
        assert status(gateway, "law").device_bytes == 0
        nothing_to_cancel = await order(gateway, "law/cancel")
        assert nothing_to_cancel.status_code == 409


async def test_a_demoted_expert_leaves_once_its_stream_has_ended_in_peace(
    serving: Serving, settings: Settings
) -> None:
    async with serving(simulated(settings, tokens_per_s=10)) as gateway:
        body = chat(model="general", stream=True, max_tokens=20)
        async with gateway.http.stream("POST", "/v1/chat/completions", json=body) as answer:
            lines = answer.aiter_lines()
            await anext(lines)
            assert (await order(gateway, "general/demote")).status_code == 202
            demoted = status(gateway, "general")
            assert (demoted.tier, demoted.leases, demoted.ordered) == ("device", 1, "host")
            assert [line async for line in lines if line][-1] == "data: [DONE]"
        await settled(gateway)
        assert status(gateway, "general").tier == "host"
        assert (await gateway.post(model="general", max_tokens=1)).headers["x-coe-tier"] == "host"


@pytest.mark.parametrize("verb", ["load", "demote", "move", "pin", "unpin", "cancel"])
async def test_an_unknown_expert_is_not_found(serving: Serving, settings: Settings, verb: str) -> None:
    async with serving(settings) as gateway:
        answer = await order(gateway, f"lwa/{verb}", tier="host")
        assert answer.status_code == 404
        error = answer.json()["error"]
        assert error["code"] == "model_not_found"
        assert error["message"] == "There is no expert 'lwa'. Did you mean 'law'?"


@pytest.mark.parametrize(
    ("path", "body", "code", "param"),
    [
        ("law/move", b"", 400, "tier"),
        ("law/move", b'{"tier": "moon"}', 400, "tier"),
        ("law/demote", b'{"tier": "device"}', 400, "tier"),
        ("law/demote", b'{"teir": "disk"}', 400, "teir"),
        ("law/demote", b"{", 400, None),
        ("law/demote", b" " * 20_000, 413, None),
    ],
)
async def test_a_wrong_order_gets_openais_error_body(
    serving: Serving, settings: Settings, path: str, body: bytes, code: int, param: str | None
) -> None:
    async with serving(settings) as gateway:
        answer = await gateway.http.post(f"/v1/coe/experts/{path}", content=body, headers=AS_JSON)
        assert (answer.status_code, answer.json()["error"]["param"]) == (code, param)
        assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_an_expert_may_have_any_name(serving: Serving, settings: Settings) -> None:
    odd = "wei rd 50%?#é"
    renamed = settings.model_copy(update={"experts": {odd: settings.experts["law"]}, "compositions": {}})
    prepare(odd, renamed.experts[odd], renamed.store)
    async with serving(renamed) as gateway:
        path = "wei%20rd%2050%25%3F%23%C3%A9/demote"
        assert (await order(gateway, path)).json()["expert"] == odd


async def test_an_admin_key_opens_orders_and_an_api_key_does_not(
    serving: Serving, settings: Settings
) -> None:
    keys = changed(settings, api_keys=(SecretStr("of-clients"),), admin_key=SecretStr("of-admins"))
    async with serving(keys) as gateway:
        for method, path, done in (("GET", "tiers", 200), ("POST", "experts/law/load", 202)):
            for headers, code in (({}, 401), (CLIENT, 401), (ADMIN, done)):
                answer = await gateway.http.request(method, f"/v1/coe/{path}", headers=headers)
                assert answer.status_code == code
        assert (await gateway.post(headers=CLIENT)).status_code == 200
        assert (await gateway.post(headers=ADMIN)).status_code == 401


async def test_without_an_admin_key_api_keys_close_the_orders(serving: Serving, settings: Settings) -> None:
    async with serving(changed(settings, api_keys=(SecretStr("of-clients"),))) as gateway:
        for headers in ({}, CLIENT):
            answer = await gateway.http.get("/v1/coe/tiers", headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "admin_key_needed")
            assert "set server.admin_key" in answer.json()["error"]["message"]


@pytest.mark.parametrize("header", [{"x-forwarded-for": "10.1.2.3"}, {"origin": "http://elsewhere.example"}])
async def test_without_an_admin_key_other_machines_and_web_pages_may_not_order(
    serving: Serving, settings: Settings, header: dict[str, str]
) -> None:
    async with serving(settings) as gateway:
        for path in ("law/load", "law/pin"):
            answer = await gateway.http.post(f"/v1/coe/experts/{path}", headers=header)
            assert answer.status_code == 403
        assert status(gateway, "law").tier == "disk"


def from_client(host: str | None) -> Request:
    return Request({"type": "http", "headers": [], "client": (host, 1) if host is not None else None})


NO_KEYS = Keys(KeyRing(), KeyRing(), required=False)


def test_this_machine_is_known_by_its_loopback_addresses() -> None:
    for here in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"):
        check_operator(from_client(here), ServerConfig(), NO_KEYS)
    for elsewhere in ("10.0.0.1", "::ffff:10.0.0.1", "fe80::1", "localhost.example", "", None):
        with pytest.raises(Forbidden):
            check_operator(from_client(elsewhere), ServerConfig(), NO_KEYS)


async def test_who_has_a_higher_priority_is_served_first(serving: Serving, settings: Settings) -> None:
    async with serving(simulated(settings, load_bytes_per_s=4000)) as gateway:
        served: list[str] = []

        async def ask(expert: str, priority: str) -> None:
            answer = await gateway.post(model=expert, headers={"x-coe-priority": priority})
            assert answer.status_code == 200
            served.append(expert)

        asks = [asyncio.create_task(ask("law", "Normal"))]
        await until(lambda: status(gateway, "law").device == "arriving")
        for expert, priority in (("coding", "low"), ("math", "normal"), ("medicine", "high")):
            asks.append(asyncio.create_task(ask(expert, priority)))
            await until(lambda expert=expert: status(gateway, expert).waiting == 1)  # type: ignore[misc]
        await asyncio.gather(*asks)
        assert served == ["law", "medicine", "math", "coding"]


async def test_an_unknown_priority_is_refused_with_the_known_ones(
    serving: Serving, settings: Settings
) -> None:
    async with serving(settings) as gateway:
        answer = await gateway.post(headers={"x-coe-priority": "urgent"})
        assert answer.status_code == 400
        message = answer.json()["error"]["message"]
        assert message == "x-coe-priority is 'urgent'; it may be high, normal, low."


async def test_a_load_that_failed_shows_why(serving: Serving, settings: Settings) -> None:
    async with serving(settings) as gateway:
        damage(settings.store / "law")
        await order(gateway, "law/load")
        await settled(gateway)
        seen = (await snapshot(gateway)).expert("law")
        assert seen is not None
        assert (seen.ordered, seen.tier) == (None, "disk")
        assert "no config.json" in seen.failure


def damage(checkpoint: Path) -> None:
    assert json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").unlink()
