"""Clients that leave, at each place of the line: nothing of theirs is left, and others notice nothing."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from router.artifacts.artifact import Artifact
from router.composition import Composition
from router.router import Router
from server.config.settings import Settings
from server.routing.routing import Routing
from tests.server.conftest import EXPERTS, Gateway, Serving, chat, simulated, until
from tests.server.routing.test_requests import EMBEDDED, Slow

ENDPOINTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hello"}]},
    "/v1/completions": {"prompt": "hello"},
    "/v1/messages": {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 1000},
    "/v1/responses": {"input": "hello"},
}
every_endpoint = pytest.mark.parametrize("path", ENDPOINTS)


@asynccontextmanager
async def caller(
    gateway: Gateway, path: str, *, part: float = 1.0, **fields: Any
) -> AsyncIterator[asyncio.StreamReader]:
    """A client that has sent this part of its request, and leaves without a word at the end of the block."""
    body = json.dumps(ENDPOINTS[path] | fields).encode()
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    writer.write(f"{head}\r\n\r\n".encode())
    writer.write(body[: int(part * len(body))])
    await writer.drain()
    try:
        yield reader
    finally:
        writer.transport.abort()


async def nothing_is_left(gateway: Gateway, *, clients: int = 1) -> None:
    """Of that many clients that left."""
    counts = gateway.services.tiers.counts
    await until(lambda: (counts().waiting, counts().leases, gateway.engine.running) == (0, 0, 0))
    await until_left(gateway, clients)
    assert (await gateway.post(model="general", max_tokens=1)).status_code == 200


async def until_left(gateway: Gateway, clients: int) -> None:
    async with asyncio.timeout(30):
        while await left(gateway) != clients:  # noqa: ASYNC110  the gateway tells nobody
            await asyncio.sleep(0.01)


async def left(gateway: Gateway) -> int:
    text = (await gateway.services.metrics.text(gateway.services.tiers, {}, {}, {})).decode()
    lines = [line for line in text.splitlines() if line.startswith("coe_requests_total{")]
    return sum(int(float(line.split()[-1])) for line in lines if 'outcome="client_left"' in line)


@every_endpoint
async def test_while_it_sends(serving: Serving, settings: Settings, path: str) -> None:
    async with serving(settings) as gateway:
        async with caller(gateway, path, model="law", part=0.5):
            assert (await gateway.http.get("/health")).status_code == 200
        await nothing_is_left(gateway)


@every_endpoint
async def test_while_it_is_routed(serving: Serving, settings: Settings, path: str) -> None:
    async with serving(settings) as gateway:
        services, slow = gateway.services, Slow()
        composition = Composition(Router(replace(Artifact.read(EMBEDDED), quick=None), slow))
        windows, observe = {"small": 200_000}, services.metrics.decided
        routing = Routing({"coe": composition}, services.experts, windows, observe, services.workers)
        services.catalog = replace(services.catalog, routing=routing)
        async with caller(gateway, path, model="coe"):
            await until(lambda: slow.inside == 1)
        slow.go_on.set()
        await nothing_is_left(gateway)


@every_endpoint
async def test_while_it_waits_in_line(serving: Serving, settings: Settings, path: str) -> None:
    """Both places on the device are in use, so nothing is loaded for it."""
    async with serving(simulated(settings, tokens_per_s=10)) as gateway:
        await gateway.post(model="math", max_tokens=1)
        async with (
            caller(gateway, path, model="general", stream=True),
            caller(gateway, path, model="math", stream=True),
        ):
            await until(lambda: gateway.engine.running == 2)
            async with caller(gateway, path, model="law", stream=True):
                await until(lambda: gateway.services.tiers.counts().waiting == 1)
            await until(lambda: gateway.services.tiers.counts().waiting == 0)
            assert gateway.engine.running == 2
        await nothing_is_left(gateway, clients=3)


@every_endpoint
async def test_while_its_expert_is_loaded_which_goes_on_for_others(
    serving: Serving, settings: Settings, path: str
) -> None:
    async with serving(simulated(settings, load_bytes_per_s=2000)) as gateway:
        tiers = gateway.services.tiers
        async with caller(gateway, path, model="law"):
            await until(lambda: any(move.target == "device" for move in tiers.progress()))
            (loading,) = (move for move in tiers.progress() if move.target == "device")
            other = asyncio.create_task(gateway.post(model="law", max_tokens=1))
            await until(lambda: tiers.counts().waiting == 2)
        await until(lambda: tiers.counts().waiting == 1)
        assert (await other).status_code == 200
        assert loading.expert == "law"
        text = (await gateway.http.get("/metrics")).text
        assert (
            'coe_move_seconds_count{from_tier="host",outcome="done",reason="ticket",to_tier="device"} 1.0'
            in text
        )
        await nothing_is_left(gateway)


@every_endpoint
async def test_the_load_of_the_only_one_who_waited_goes_on(
    serving: Serving, settings: Settings, path: str
) -> None:
    async with serving(simulated(settings, load_bytes_per_s=2000)) as gateway:
        tiers = gateway.services.tiers
        async with caller(gateway, path, model="law"):
            await until(lambda: any(move.target == "device" for move in tiers.progress()))
        await until(lambda: tiers.counts().waiting == 0)
        await until(lambda: any(s.expert == "law" and s.tier == "device" for s in tiers.status()))
        await nothing_is_left(gateway)


@every_endpoint
@pytest.mark.parametrize("stream", [False, True])
async def test_before_the_first_token(serving: Serving, settings: Settings, path: str, stream: bool) -> None:
    async with serving(simulated(settings, tokens_per_s=0.5)) as gateway:
        async with caller(gateway, path, model="general", stream=stream):
            await until(lambda: gateway.engine.running == 1)
        await until(lambda: gateway.services.tiers.counts().leases == 0)
        await until(lambda: gateway.engine.running == 0)
        await until_left(gateway, 1)


@every_endpoint
async def test_while_it_streams(serving: Serving, settings: Settings, path: str) -> None:
    async with serving(simulated(settings, tokens_per_s=20)) as gateway:
        async with caller(gateway, path, model="general", stream=True) as reader:
            await reader.readuntil(b"data: ")
            assert gateway.services.tiers.counts().leases == 1
        await nothing_is_left(gateway)


async def test_everywhere_at_once(serving: Serving, settings: Settings) -> None:
    async with serving(simulated(settings, load_bytes_per_s=20_000, tokens_per_s=20)) as gateway:
        async with asyncio.TaskGroup() as callers:
            for number in range(60):
                fields = {"model": EXPERTS[number % 5], "stream": bool(number % 2), "max_tokens": 1000}
                callers.create_task(calls_for(gateway, number / 100, **fields))
        await nothing_is_left(gateway, clients=60)


async def calls_for(gateway: Gateway, seconds: float, **fields: Any) -> None:
    async with caller(gateway, "/v1/chat/completions", **fields):
        await asyncio.sleep(seconds)


AGAIN: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", chat(max_tokens=1)),
    ("/v1/chat/completions", chat(max_tokens=1, stream=True)),
    ("/v1/responses", {"model": "law", "input": "hello", "max_output_tokens": 16}),
    ("/v1/responses", {"model": "law", "input": "hello", "max_output_tokens": 16, "stream": True}),
    ("/v1/messages", chat(max_tokens=1)),
    ("/v1/messages", chat(max_tokens=1, stream=True)),
    ("/v1/completions", {"model": "law", "prompt": "hello", "max_tokens": 1}),
    ("/v1/completions", {"model": "law", "prompt": "hello", "max_tokens": 1, "stream": True}),
]


@pytest.mark.parametrize(("path", "body"), AGAIN)
async def test_work_that_was_not_begun_is_done_again_after_the_engine_s_restart(
    serving: Serving, settings: Settings, path: str, body: dict[str, Any]
) -> None:
    async with serving(simulated(settings, tokens_per_s=2)) as gateway:
        waiting = asyncio.create_task(gateway.http.post(path, json=body))
        await until(lambda: gateway.engine.running == 1)
        gateway.engine.crash()
        answer = await waiting
        assert answer.status_code == 200
        assert "engine_" not in answer.text
        await until(lambda: gateway.services.tiers.counts().leases == 0)
