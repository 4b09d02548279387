"""The kernel kills an engine whose cgroup is out of memory: who waits hears of it once, and it comes back."""

import asyncio

import pytest

from experts.vllm.engine import VllmEngine
from server.config.settings import Settings
from tests.memory_limit import memory_limit
from tests.server.conftest import Serving, chat, simulated

pytestmark = pytest.mark.asyncio
LITTLE = 4 * 2**20
"""Bytes: less than a large body takes."""
LARGE = 12 * 2**20


async def test_an_engine_out_of_memory_ends_its_streams_with_one_error_and_answers_after_its_restart(
    serving: Serving, settings: Settings
) -> None:
    slow = simulated(settings, process=True, tokens_per_s=2)
    async with serving(slow) as gateway:
        (engine,) = gateway.services.engines.values()
        assert isinstance(engine, VllmEngine)
        body = chat(stream=True, max_tokens=10_000)
        async with gateway.http.stream("POST", "/v1/chat/completions", json=body) as stream:
            lines = stream.aiter_lines()
            await anext(lines)
            with memory_limit(LITTLE, [engine.server.process.pid]):
                asked = asyncio.create_task(gateway.post(padding=" " * LARGE, max_tokens=1))
                events = [line.removeprefix("data: ") async for line in lines if line.startswith("data: ")]
                assert "engine_lost" in events[-1]
                assert not any('"error"' in event or event == "[DONE]" for event in events[:-1])
                assert (await asked).status_code == 200
        assert (await gateway.post(max_tokens=1)).status_code == 200
        counts = gateway.services.tiers.counts()
        assert (counts.leases, counts.waiting) == (0, 0)
