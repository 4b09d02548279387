"""Takes the samples of a gateway's figures while it runs."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from server.live.feed import engine_statistics
from server.observation.figures import EVERY_S
from server.services import NodeServices


@contextlib.asynccontextmanager
async def sampling(services: NodeServices) -> AsyncIterator[None]:
    """Takes a sample every ``EVERY_S`` seconds until it is left."""
    sampler = asyncio.create_task(_sample_on(services), name="samples of figures")
    try:
        yield
    finally:
        sampler.cancel()
        await asyncio.wait({sampler})


async def _sample_on(services: NodeServices) -> None:
    observer, tiers = services.observer, services.tiers
    while True:
        await asyncio.sleep(EVERY_S)
        statistics = await engine_statistics(services)
        observer.figures.sample(time.time(), observer.clock(), tiers.counts(), tiers.usage(), statistics)
