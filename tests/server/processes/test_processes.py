"""Several gateway processes over one node, as clients and operators see them."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.cli.main import main
from server.config.settings import Settings
from tests.server.conftest import chat
from tests.server.peers.nodes import PATIENCE_S
from tests.server.processes.served import Gateway, command_of, gateway_of

pytestmark = pytest.mark.system

KEY = {"key": "sk-of-a-test-alone", "name": "mobile", "requests_per_minute": 10, "tokens_per_day": 100_000}
SENT = {"authorization": f"Bearer {KEY['key']}"}
CHAT = "/v1/chat/completions"
ENDLESS: dict[str, Any] = {"max_tokens": 20_000, "ignore_eos": True}
"""An answer that takes longer than any test."""


async def begun(client: httpx.AsyncClient, **fields: Any) -> tuple[AsyncGenerator[str, None], str]:
    """A stream of which the first event has come, and that event."""

    async def events() -> AsyncGenerator[str, None]:
        body = chat(stream=True, **fields)
        async with client.stream("POST", CHAT, json=body) as answer:
            answer.raise_for_status()
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    yield line.removeprefix("data: ")

    made = events()
    return made, await anext(made)


async def replaced(gateway: Gateway, old: int) -> int:
    """Waits for the process in the place of the only one that was beside the node."""
    async with asyncio.timeout(PATIENCE_S):
        while gateway.beside in ([], [old]):  # noqa: ASYNC110  another process does it
            await asyncio.sleep(0.05)
    return gateway.beside[0]


async def test_limits_usage_metrics_and_stories_are_those_of_one(settings: Settings, tmp_path: Path) -> None:
    async with gateway_of(tmp_path, keys=[KEY]) as gateway:
        (beside,) = gateway.beside
        ours = await gateway.client_of(gateway.node, headers=SENT)
        theirs = await gateway.client_of(beside, headers=SENT)
        statuses, left = [], []
        for number in range(12):
            model = "coe" if number < 4 else "law"
            answer = await (ours, theirs)[number % 2].post(CHAT, json=chat(model=model, max_tokens=3))
            statuses.append(answer.status_code)
            left.append(answer.headers["x-ratelimit-remaining-requests"])
        assert statuses == [200] * 10 + [429] * 2
        assert left == [str(count) for count in range(9, -1, -1)] + ["0", "0"]
        for client in (ours, theirs):
            rows = (await client.get("/v1/coe/usage")).json()["rows"]
            assert sum(row["requests"] for row in rows) == 12
            assert sum(row["completion_tokens"] for row in rows) == 30
            assert sum(row["errors"] for row in rows) == 2
            metrics = (await client.get("/metrics")).text
            assert 'coe_requests_total{expert="",outcome="429"} 2.0' in metrics
            decided = [line for line in metrics.splitlines() if line.startswith("coe_route_decisions_total")]
            assert sum(float(line.rpartition(" ")[2]) for line in decided) == 4
        await ours.aclose()
        await theirs.aclose()
        assert await gateway.end(signal.SIGTERM) == 0, gateway.said.decode()
        assert b"Traceback" not in gateway.said, gateway.said.decode()


async def test_what_one_process_was_asked_to_keep_is_found_and_gone_on_from_by_the_other(
    settings: Settings, tmp_path: Path
) -> None:
    asked = {"model": "law", "input": "hello", "store": True, "max_output_tokens": 16}
    async with gateway_of(tmp_path) as gateway:
        pids = (gateway.node, *gateway.beside)
        clients = [await gateway.client_of(pid) for pid in pids]
        for here, there in (clients, clients[::-1]):
            made = (await here.post("/v1/responses", json=asked)).json()
            at = f"/v1/responses/{made['id']}"
            assert (await there.get(at)).json() == made
            more = await there.post("/v1/responses", json=asked | {"previous_response_id": made["id"]})
            assert more.json()["previous_response_id"] == made["id"], more.text
            assert (await there.delete(at)).json()["deleted"] is True
            assert (await here.get(at)).status_code == 404
        for client in clients:
            await client.aclose()


async def test_a_process_that_dies_is_replaced_and_only_its_own_streams_end(
    settings: Settings, tmp_path: Path
) -> None:
    async with gateway_of(tmp_path, keys=[{**KEY, "concurrent_requests": 2}]) as gateway:
        (old,) = gateway.beside
        ours = await gateway.client_of(gateway.node, headers=SENT)
        theirs = await gateway.client_of(old, headers=SENT)
        refused = await gateway.client_of(gateway.node, headers=SENT)
        mine, _ = await begun(ours, **ENDLESS)
        lost, _ = await begun(theirs, **ENDLESS)
        assert (await refused.post(CHAT, json=chat())).status_code == 429, "two are under way"
        os.kill(old, signal.SIGKILL)
        try:
            rest = [event async for event in lost]
        except httpx.HTTPError:
            rest = []
        assert "[DONE]" not in rest
        new = await replaced(gateway, old)
        for _ in range(400):
            assert '"error"' not in await anext(mine), "the other's stream goes on"
        await mine.aclose()
        await gateway.says("another takes its place")
        again = await gateway.client_of(new, headers=SENT)
        answer = await again.post(CHAT, json=chat(max_tokens=3))
        assert answer.status_code == 200, answer.text
        async with asyncio.timeout(PATIENCE_S):
            while 'coe_leases{expert="law"} 0.0' not in (await again.get("/metrics")).text:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        for client in (ours, theirs, refused, again):
            await client.aclose()
        assert await gateway.end(signal.SIGTERM) == 0, gateway.said.decode()


async def test_a_process_that_is_stopped_makes_way_and_no_request_is_refused(
    settings: Settings, tmp_path: Path
) -> None:
    async with gateway_of(tmp_path) as gateway:
        (old,) = gateway.beside
        statuses, enough = list[int](), asyncio.Event()

        async def ask_on(client: httpx.AsyncClient, **headers: str) -> None:
            while not enough.is_set():
                answer = await client.post(CHAT, json=chat(max_tokens=3), headers=headers)
                statuses.append(answer.status_code)

        kept = [await gateway.client_of(old) for _ in range(3)]
        async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as new:
            asking = [asyncio.create_task(ask_on(client)) for client in kept]
            asking += [asyncio.create_task(ask_on(new, connection="close")) for _ in range(3)]
            async with asyncio.timeout(PATIENCE_S):
                while len(statuses) < 30:  # noqa: ASYNC110  other tasks ask meanwhile
                    await asyncio.sleep(0)
            os.kill(old, signal.SIGTERM)
            await replaced(gateway, old)
            enough.set()
            await asyncio.gather(*asking)
        assert set(statuses) == {200}
        for client in kept:
            await client.aclose()


async def test_what_a_process_that_ends_was_asked_last_is_counted(settings: Settings, tmp_path: Path) -> None:
    async with gateway_of(tmp_path, keys=[{**KEY, "requests_per_minute": 100}]) as gateway:
        (old,) = gateway.beside
        clients = [await gateway.client_of(old, headers=SENT) for _ in range(6)]
        streams = [(await begun(client, max_tokens=50))[0] for client in clients]
        os.kill(old, signal.SIGTERM)
        for events in streams:
            assert [event async for event in events][-1] == "[DONE]"
        await replaced(gateway, old)
        ours = await gateway.client_of(gateway.node, headers=SENT)
        rows = (await ours.get("/v1/coe/usage")).json()["rows"]
        assert sum(row["requests"] for row in rows) == 6
        assert sum(row["completion_tokens"] for row in rows) == 300
        for client in (*clients, ours):
            await client.aclose()
        assert await gateway.end(signal.SIGTERM) == 0, gateway.said.decode()


async def test_one_stop_drains_all_and_the_end_of_the_node_ends_all(
    settings: Settings, tmp_path: Path
) -> None:
    async with gateway_of(tmp_path) as gateway:
        (beside,) = gateway.beside
        clients = [await gateway.client_of(pid) for pid in (gateway.node, beside)]
        streams = [(await begun(client, max_tokens=100))[0] for client in clients]
        assert gateway.process is not None
        gateway.process.send_signal(signal.SIGTERM)
        for events in streams:
            assert [event async for event in events][-1] == "[DONE]"
        assert await gateway.process.wait() == 0, gateway.said.decode()
        assert gateway.reading is not None
        await gateway.reading
        assert command_of(beside) == b""
        for client in clients:
            await client.aclose()
        await gateway.start()
        (beside,) = gateway.beside
        gateway.process.kill()
        async with asyncio.timeout(PATIENCE_S):
            while command_of(beside):  # noqa: ASYNC110  another process does it
                await asyncio.sleep(0.05)


async def test_a_reload_and_a_lost_engine_are_seen_by_all(
    settings: Settings, tmp_path: Path, capsys: Any
) -> None:
    async with gateway_of(tmp_path) as gateway:
        (beside,) = gateway.beside
        theirs = await gateway.client_of(beside)
        assert (await theirs.post(CHAT, json=chat(model="short"))).status_code == 404
        text = gateway.config.read_text()
        gateway.config.write_text(text + "aliases: {short: law}\n")
        assert await asyncio.to_thread(main, ["reload", "--url", gateway.url]) == 0
        answer = await theirs.post(CHAT, json=chat(model="short", max_tokens=3))
        assert answer.headers["x-coe-expert"] == "law"
        assert await asyncio.to_thread(main, ["tiers", "status", "--url", gateway.url]) == 0
        assert "law" in capsys.readouterr().out
        events, _ = await begun(theirs, **ENDLESS)
        os.kill(gateway.engine, signal.SIGKILL)
        errors = [json.loads(event) async for event in events if "error" in event]
        assert [error["error"]["code"] for error in errors] == ["engine_lost"]
        assert (await theirs.post(CHAT, json=chat(max_tokens=3))).status_code == 200
        await theirs.aclose()
        assert await gateway.end(signal.SIGTERM) == 0, gateway.said.decode()
        assert b"Traceback" not in gateway.said, gateway.said.decode()


async def test_a_reload_reaches_a_process_that_only_begins(
    settings: Settings, tmp_path: Path, capsys: Any
) -> None:
    async with gateway_of(tmp_path) as gateway:
        (old,) = gateway.beside
        gateway.config.write_text(gateway.config.read_text() + "aliases: {short: law}\n")
        os.kill(old, signal.SIGKILL)
        new = await replaced(gateway, old)
        assert await asyncio.to_thread(main, ["reload", "--url", gateway.url]) == 0
        theirs = await gateway.client_of(new)
        answer = await theirs.post(CHAT, json=chat(model="short", max_tokens=3))
        assert answer.headers["x-coe-expert"] == "law"
        await theirs.aclose()
        assert await gateway.end(signal.SIGTERM) == 0, gateway.said.decode()
        assert b"does not take" not in gateway.said, gateway.said.decode()
