"""Every state of a request, and what may go wrong in it: what the client hears, as a table.

Each cell is a run of the whole gateway on a virtual clock. In each, the request ends once, nothing of it is
left, and the same request is answered afterwards.
"""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace

from memory_tiers.errors import TiersError
from tests.simulation.answers import Answer
from tests.simulation.client import Client
from tests.simulation.resets import ASK, CALM
from tests.simulation.scenario import Ask
from tests.simulation.wire import Wire
from tests.simulation.world import SECRETS, World, check_at_rest, played_in

SLOW = replace(CALM, device=1, host=5, max_wait_s=30.0, min_residency_s=0.0, tokens_per_s=20.0, load_s=2.0)
"""One expert fits the device, so that a request for a second one waits, and then its expert is loaded."""
RIVAL = replace(ASK, number=1, model="math", tokens=64)
ASKED = replace(ASK, model="law", tokens=20)
Reached = Callable[[World, Wire], bool]
Strike = Callable[[World, Wire], Awaitable[None]]

STATES: Mapping[str, Reached] = {
    "admitted": lambda world, wire: True,
    "waiting": lambda world, wire: world.services.tiers.counts().waiting == 1,
    "loading": lambda world, wire: _loads(world),
    "first token": lambda world, wire: world.engine.running == 1 and _leased(world),
    "streaming": lambda world, wire: b"data: " in bytes(wire.received),
    "settling": lambda world, wire: b"[DONE]" in bytes(wire.received),
}


def _loads(world: World) -> bool:
    moves = world.services.tiers.progress()
    return any((move.expert, move.target) == (ASKED.model, "device") for move in moves)


def _leased(world: World) -> bool:
    return any(expert.expert == ASKED.model and expert.leases for expert in world.services.tiers.status())


async def engine_dies(world: World, wire: Wire) -> None:
    if world.engine.state == "ready":
        world.engine.crash()


async def engine_dies_twice(world: World, wire: Wire) -> None:
    world.engine.failing_starts = 1
    await engine_dies(world, wire)


async def engine_is_silent(world: World, wire: Wire) -> None:
    world.engine.silent_s = 400.0


async def load_fails(world: World, wire: Wire) -> None:
    world.engine.failing_loads = 1


async def disk_fails(world: World, wire: Wire) -> None:
    world.disk.failing = 1


async def client_leaves(world: World, wire: Wire) -> None:
    wire.leave(reset=False)


async def client_resets(world: World, wire: Wire) -> None:
    wire.leave(reset=True)


async def clock_jumps(world: World, wire: Wire) -> None:
    world.wall.ahead_s += 400 * 86_400


async def reload(world: World, wire: Wire) -> None:
    await world.reload.now()


async def operator_demotes(world: World, wire: Wire) -> None:
    world.services.tiers.orders.move(ASKED.model, "disk")


async def operator_cancels(world: World, wire: Wire) -> None:
    world.services.tiers.orders.cancel_load(ASKED.model)


FAULTS: Mapping[str, Strike] = {
    "engine dies": engine_dies,
    "engine dies, and its next start fails": engine_dies_twice,
    "engine says nothing for 400 s": engine_is_silent,
    "load fails": load_fails,
    "disk fails": disk_fails,
    "client closes": client_leaves,
    "client resets": client_resets,
    "clock jumps 400 days": clock_jumps,
    "configuration is reloaded": reload,
    "operator sends the expert to disk": operator_demotes,
    "operator cancels the load": operator_cancels,
}


def table() -> Iterator[str]:
    """The lines of the table, in Markdown. Raises AssertionError for a cell that breaks a promise."""
    yield f"| | {' | '.join(STATES)} |"
    yield f"|---|{'---|' * len(STATES)}"
    for name, strike in FAULTS.items():
        yield f"| {name} | {' | '.join(outcome(state, strike) for state in STATES)} |"


def outcome(state: str, strike: Strike) -> str:
    """Strikes a request in this state and returns what its client hears."""
    return played_in(SLOW, random.Random(0), lambda world: _cell(world, state, strike))


async def _cell(world: World, state: str, strike: Strike) -> str:
    waits = state in ("waiting", "loading")
    rival = asyncio.create_task(_asked(world, RIVAL)) if waits else None
    if rival is not None:
        await _until(lambda: world.engine.running == 1)
    client, wire = Client(ASKED, SECRETS[ASKED.key], random.Random(0)), world.connect()
    asking, gate = asyncio.create_task(client.run(wire)), world.server.gate
    await _until(lambda: (gate.under_way > 0 or state == "settling") and STATES[state](world, wire))
    refused = False
    try:
        await strike(world, wire)
    except TiersError:
        refused = True
    await asking
    if rival is not None:
        await rival
    await asyncio.sleep(500)
    await check_at_rest(world)
    missed = _disarmed(world)
    after = await _asked(world, ASKED)
    assert after.status == 200, f"afterwards nobody is answered: {after}"
    assert after.error is None, f"afterwards nobody is answered: {after}"
    if refused or missed:
        assert (client.answer.status, client.answer.error) == (200, None), client.answer
        return "order refused" if refused else "-"
    return "left" if wire.left and client.answer.status == 0 else _heard(client.answer)


def _disarmed(world: World) -> bool:
    """Takes back a fault that nothing has met; whether there was one."""
    engine, disk = world.engine, world.disk
    left = engine.failing_loads + engine.failing_starts + disk.failing + engine.silent_s
    engine.failing_loads = engine.failing_starts = disk.failing = 0
    engine.silent_s = 0.0
    return left > 0


def _heard(answer: Answer) -> str:
    if answer.error is None:
        return "whole"
    return f"`{answer.error}` in the stream" if answer.status == 200 else f"{answer.status} `{answer.error}`"


async def _asked(world: World, ask: Ask) -> Answer:
    client = Client(ask, SECRETS[ask.key], random.Random(0))
    await client.run(world.connect())
    return client.answer


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(600):
        for look in itertools.count():
            if condition():
                return
            await asyncio.sleep(0 if look < 10 else 0.001)  # at first step by step
