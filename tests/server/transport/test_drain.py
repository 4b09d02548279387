"""A shutdown over a real socket: what is under way ends, what comes is told to come back."""

import asyncio

import httpx
import pytest

from server.config.settings import Settings
from tests.server.conftest import AS_JSON, Serving, changed, chat, simulated, until
from tests.server.test_gateway import held
from tests.server.transport.test_connection import LONG
from tests.server.wire import post, wire


async def test_what_is_under_way_ends_and_what_comes_is_told_to_come_back(
    serving: Serving, settings: Settings
) -> None:
    async with serving(simulated(settings, tokens_per_s=50)) as gateway, wire(gateway.url) as kept:
        await kept.send(post(b"{}"))
        first = await kept.reply()
        assert first is not None
        assert "connection" not in first.headers
        under_way = asyncio.create_task(gateway.post(model="general", max_tokens=60, ignore_eos=True))
        await until(lambda: held(gateway) == (0, 1))
        gateway.server.stop()
        for path in ("/ready", "/v1/models", "/v1/coe/tiers"):
            answer = await gateway.http.get(path)
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "shutting_down"
            assert path == "/ready" or answer.headers["connection"] == "close"
            assert int(answer.headers["retry-after"]) >= 1
        await kept.send(post(b"{}"))
        refused = await kept.reply()
        assert refused is not None
        assert (refused.status, refused.headers["connection"]) == (503, "close")
        assert await kept.closed() == b""
        async with wire(gateway.url) as new:
            await new.send(post(b"{}"))
            refused = await new.reply()
            assert refused is not None
            assert refused.status == 503
        for path in ("/health", "/metrics"):
            assert (await gateway.http.get(path)).status_code == 200
        answer = await under_way
        assert answer.status_code == 200
        assert len(answer.json()["choices"][0]["message"]["content"].split()) > 50


async def test_what_does_not_end_in_time_is_cut_off(serving: Serving, settings: Settings) -> None:
    async with serving(changed(settings, drain_s=0.2)) as gateway:
        async with gateway.http.stream(
            "POST", "/v1/chat/completions", content=LONG, headers=AS_JSON
        ) as answer:
            parts = answer.aiter_bytes()
            await anext(parts)
            gateway.server.stop()
            with pytest.raises(httpx.TransportError):
                assert b"[DONE]" not in [part async for part in parts][-1]
        assert held(gateway) == (0, 0)


async def test_the_second_signal_waits_for_nothing(serving: Serving, settings: Settings) -> None:
    async with serving(changed(settings, drain_s=3600)) as gateway:
        body = chat(model="general", stream=True, max_tokens=150_000, ignore_eos=True)
        leaving = asyncio.create_task(gateway.post(**body))
        await until(lambda: held(gateway) == (0, 1))
        gateway.server.stop()
        gateway.server.stop()
        with pytest.raises(httpx.TransportError):
            await leaving
