"""Clients that reset their connections: one after each byte of a request, and of its answer."""

import asyncio
import random
from dataclasses import replace

from tests.simulation.client import Client
from tests.simulation.scenario import Ask, Scenario
from tests.simulation.world import SECRETS, World, check_at_rest, played_in

ASK = Ask(
    number=0, at=0.0, endpoint="/v1/chat/completions",
    model="law", key="first", prompt="Hello there.", stream=True, counted=True, tokens=4,
    priority=None, fail_fast=False, timeout_s=None, behaviour="reads", after=0.0, pieces=1,
)  # fmt: skip
CALM = replace(
    Scenario.of(0), device=4, host=5, asks=(), faults=(), requests=1024, max_queue=1024, tokens_per_s=200.0,
    load_s=0.001, breaker_failures=0, ttl_s=None,
)  # fmt: skip


def run(*, stream: bool) -> int:
    """Asks once for each byte of the answer, and once for each of the request. How many times it asked.
    Raises AssertionError."""
    return played_in(CALM, random.Random(0), lambda world: _at_every_byte(world, stream))


async def _at_every_byte(world: World, stream: bool) -> int:
    ask = replace(ASK, stream=stream)
    answer, request = await _whole(world, ask)
    for byte in range(len(request)):
        await _cut(world, ask, sent=byte, read=0)
    for byte in range(answer):
        await _cut(world, ask, sent=len(request), read=byte)
    await _whole(world, ask)  # who asks afterwards is answered
    await check_at_rest(world)
    return len(request) + answer


async def _whole(world: World, ask: Ask) -> tuple[int, bytes]:
    """The length of a whole answer, and the request."""
    client = Client(ask, SECRETS[ask.key], random.Random(0))
    wire = world.connect()
    await client.run(wire)
    assert client.answer.status == 200, client.answer
    assert client.answer.error is None, client.answer
    return len(wire.received), client.request()


async def _cut(world: World, ask: Ask, *, sent: int, read: int) -> None:
    """Sends so many bytes, reads so many, and resets."""
    wire = world.connect()
    await wire.send(Client(ask, SECRETS[ask.key], random.Random(0)).request()[:sent])
    while read and len(wire.received) < read:
        if not wire.unread:
            wire.arrived.clear()
            await wire.arrived.wait()
        wire.read(read - len(wire.received))
    wire.leave(reset=True)
    await asyncio.sleep(0.5)
    counts = world.services.tiers.counts()
    assert (counts.leases, counts.waiting) == (0, 0), f"after {sent} bytes sent and {read} read: {counts}"
    assert world.engine.running == 0, f"after {sent} bytes sent and {read} read: {world.engine}"
