"""The whole gateway in one process on a virtual clock, from the bytes of its clients to simulated engines."""

import asyncio
import atexit
import contextlib
import json
import logging
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import numpy as np
import yaml
from safetensors.numpy import save_file

import memory_tiers.driver.event_feed
from experts.checkpoints.prepare import prepare
from experts.simulated.response import SimulatedResponse
from experts.spec import Expert
from memory_tiers.driver.host_store import HostStore
from memory_tiers.errors import TiersError
from server.access.usage import UsageQuery
from server.app import create_app
from server.compose import running
from server.config.settings import Settings, load
from server.errors import ReloadRefused
from server.reload.reload import Reload
from server.serve import Server, server_over
from server.services import NodeServices
from tests.simulation import clock
from tests.simulation.answers import Answer, Wrong, take_whole
from tests.simulation.client import Client, body_of
from tests.simulation.faulty import FaultyDisk, FaultyEngine
from tests.simulation.loop import SeededLoop
from tests.simulation.scenario import EXPERT_BYTES, EXPERTS, Ask, Fault, Scenario
from tests.simulation.wire import Wire

Played = TypeVar("Played")
ROOT = Path(__file__).resolve().parents[2]
SECRETS = {name: f"secret-of-{name}" for name in ("first", "second", "narrow", "wrong")}
GENERATING = ("/v1/chat/completions", "/v1/completions")
"""Endpoints whose requests reach the engine as they came."""
LEFT_S = 1.0
"""Virtual seconds after which nothing may be done any more for a client that has its answer or has left."""
QUIET_S = 1000.0
"""Virtual seconds in which everything that was begun has to end."""


@dataclass(frozen=True, slots=True)
class Report:
    """``trace``: a line for each thing that happened, the same for the same seed."""

    scenario: Scenario
    statuses: Mapping[int, int]
    trace: tuple[str, ...]


@dataclass(slots=True)
class World:
    """A running gateway, and the handles of what may go wrong. ``tasks``: their names when it was ready."""

    scenario: Scenario
    loop: SeededLoop
    wall: clock.Clock
    services: NodeServices
    server: Server
    reload: Reload
    engine: FaultyEngine
    disk: FaultyDisk
    folder: Path
    tasks: frozenset[str] = frozenset()
    connected: int = 0
    """Clients that wait for an answer."""
    refuse_reload: bool = False

    def connect(self) -> Wire:
        """A new client's connection."""
        speaks: Any = self.server.config.http_protocol_class
        state = self.server.server_state
        protocol = speaks(config=self.server.config, server_state=state, app_state={}, _loop=self.loop)
        return Wire.to(self.loop, protocol)


def run(seed: int) -> Report:
    """Plays the scenario of ``seed`` and checks what must hold. Raises AssertionError."""
    scenario = Scenario.of(seed)
    chance = random.Random(f"steps of {seed}")
    return played_in(scenario, chance, lambda world: _play(world, chance))


def played_in(
    scenario: Scenario, chance: random.Random, play: Callable[[World], Awaitable[Played]]
) -> Played:
    """Serves on a virtual clock while ``play`` runs. ``chance`` orders the steps. Raises AssertionError where
    the gateway logs an error of its own, and what ``play`` raises."""
    loop = SeededLoop(chance)
    handler = _Errors()
    logger = logging.getLogger("coe")
    logger.addHandler(handler)
    asyncio.set_event_loop(loop)
    wall = clock.Clock(loop.time)
    try:
        with (
            clock.running(wall),
            tempfile.TemporaryDirectory(prefix="coe-simulation-", dir="/dev/shm") as folder,
        ):
            played = loop.run_until_complete(_served(scenario, loop, wall, Path(folder), play))
            loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        asyncio.set_event_loop(None)
        loop.close()
        logger.removeHandler(handler)
    assert not handler.lines, f"the gateway logged errors of its own: {handler.lines}"
    return played


async def _served(
    scenario: Scenario,
    loop: SeededLoop,
    wall: clock.Clock,
    folder: Path,
    play: Callable[[World], Awaitable[Played]],
) -> Played:
    async with _serving(scenario, loop, wall, folder) as world:
        await world.services.tiers.ready()
        world.tasks = _tasks()
        return await play(world)


class _Errors(logging.Handler):
    """Tracebacks in the log are errors of the gateway's own."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info or record.levelno >= logging.CRITICAL:
            self.lines.append(logging.Formatter().format(record))


async def _play(world: World, chance: random.Random) -> Report:
    scenario, trace = world.scenario, list[str]()
    clients = [Client(ask, SECRETS[ask.key], chance) for ask in scenario.asks]
    acts = [_client(world, client, trace) for client in clients]
    acts += [_fault(world, fault, trace) for fault in scenario.faults]
    async with asyncio.timeout(5000):
        await asyncio.gather(*acts)
    await asyncio.sleep(QUIET_S)
    await check_at_rest(world)
    await _check_usage(world, clients)
    statuses = {client.ask.number: client.answer.status for client in clients}
    return Report(scenario, statuses, tuple(trace))


async def _client(world: World, client: Client, trace: list[str]) -> None:
    await asyncio.sleep(client.ask.at)
    world.connected += 1
    try:
        await client.run(world.connect())
    finally:
        world.connected -= 1
    await asyncio.sleep(LEFT_S)
    _check_nobody_is_served_who_left(world)
    answer = client.answer
    trace.append(
        f"{world.loop.time():.6f} {client.ask.number} {answer.status} {answer.error} {answer.events}"
    )
    if client.ask.stays:
        await _check_answer(client)


def _check_nobody_is_served_who_left(world: World) -> None:
    counts = world.services.tiers.counts()
    held = counts.leases + counts.waiting
    assert held <= world.connected, f"{counts} for {world.connected} clients"
    assert world.engine.running <= world.connected, f"{world.engine} for {world.connected} clients"


async def _fault(world: World, fault: Fault, trace: list[str]) -> None:
    await asyncio.sleep(fault.at)
    trace.append(f"{world.loop.time():.6f} {fault.kind} {fault.expert}")
    with contextlib.suppress(TiersError, ReloadRefused):  # a refusal is an answer, too
        await _strike(world, fault)


async def _strike(world: World, fault: Fault) -> None:
    engine, orders = world.engine, world.services.tiers.orders
    match fault.kind:
        case "engine dies":
            if engine.state == "ready":
                engine.crash()
        case "load fails":
            engine.failing_loads += 1
        case "load hangs":
            engine.hang_s = fault.amount
        case "engine is silent":
            engine.silent_s = fault.amount
        case "start fails":
            engine.failing_starts += 1
        case "disk fails":
            world.disk.failing += 1
        case "clock jumps":
            world.wall.ahead_s += fault.amount * random.Random(fault.at).choice((-1, 1, 3600))
        case "reload" | "reload is refused":
            world.refuse_reload = fault.kind == "reload is refused"
            await world.reload.now()
        case "demote":
            orders.move(fault.expert, "host")
        case "load":
            orders.move(fault.expert, "device")
        case "pin" | "unpin":
            orders.pin(fault.expert, fault.kind == "pin")
        case "cancel":
            orders.cancel_load(fault.expert)


async def _check_answer(client: Client) -> None:
    """The text is the expert's that the headers name, and no other's, from its first token on."""
    answer, ask = client.answer, client.ask
    if answer.status != 200:
        return
    expert = answer.headers.get("x-coe-expert", ask.model)
    expected = await _text_of(expert, ask) if ask.endpoint in GENERATING else f"Simulated answer of {expert}:"
    right = answer.text.startswith(expected) or expected.startswith(answer.text)
    if ask.endpoint in GENERATING and answer.error is None:
        right = answer.text == expected
    if not right:
        raise Wrong(f"{ask}: {expert} says {expected!r}, and the client got {answer.text!r}")


async def _text_of(expert: str, ask: Ask) -> str:
    """Returns the answer of ``expert`` without a gateway."""

    async def step(answer: SimulatedResponse, name: str) -> float:
        return 0.0

    answer = SimulatedResponse(
        step, lambda answer: None, 0, expert, ask.endpoint, body_of(replace(ask, stream=False))
    )
    raw = b"".join([chunk async for chunk in answer.chunks()])
    said = Answer(200)
    take_whole(said, raw, ask.endpoint)
    return said.text


async def check_at_rest(world: World) -> None:
    """Nothing is left of anybody, and what is counted is what happened."""
    services = world.services
    counts = services.tiers.counts()
    assert (counts.leases, counts.waiting, counts.moves) == (0, 0, 0), f"left behind: {counts}"
    assert world.engine.running == 0, f"{world.engine} computes for nobody"
    assert services.tiers.readiness.engines, "the tiers know no engine"
    gate = repr(world.server.gate)
    assert "under way: 0, bodies: 0" in gate, f"the gate still counts: {gate}"
    left = _tasks() - world.tasks
    assert not left, f"tasks are left: {left}"
    used = {tier.tier: tier.used_bytes for tier in services.tiers.usage()}
    status = services.tiers.status()
    weights = {expert.expert: expert.weights_bytes for expert in status}
    copied = sum(file.stat().st_size for file in world.folder.glob("coe-host-*/expert-*/*.safetensors"))
    assert used["host"] == copied, f"the host is charged {used['host']} bytes and holds {copied}"
    resident = {expert.expert for expert in status if expert.tier == "device"}
    if world.engine.state == "ready":
        held = set((await world.engine.statistics()).resident)
        assert held == resident, f"the engine holds {held}, the tiers say {resident}"
        loaded = sum(weights[name] for name in held)
        assert used["device"] == loaded, f"the device is charged {used['device']} bytes and holds {loaded}"


async def _check_usage(world: World, clients: list[Client]) -> None:
    rows = await world.services.accounts.usage(UsageQuery())
    counted = Counter[str]()
    for row in rows:
        counted[row.key] += row.completion_tokens
    delivered = Counter[str]()
    for client in clients:
        if client.ask.stays and client.answer.status == 200:
            delivered[client.ask.key] += client.answer.events
    for key, tokens in delivered.items():
        assert counted[key] >= tokens, f"key {key} got {tokens} tokens, and {counted[key]} are counted"
        cut = any(client.answer.status == 200 and client.answer.error for client in clients)
        if world.scenario.calm and not cut:  # by the client's own time limit
            assert counted[key] == tokens, f"key {key} got {tokens} tokens, and {counted[key]} are counted"


def _tasks() -> frozenset[str]:
    own = asyncio.current_task()
    return frozenset(task.get_name() for task in asyncio.all_tasks() if task is not own)


@contextlib.asynccontextmanager
async def _serving(
    scenario: Scenario, loop: SeededLoop, wall: clock.Clock, folder: Path
) -> AsyncIterator[World]:
    settings = _settings(scenario, folder)
    engines: list[FaultyEngine] = []
    disk = FaultyDisk()

    def engine_of(family: str, settings: Settings, experts: Iterable[Expert]) -> FaultyEngine:
        engines.append(FaultyEngine(family, settings.families[family].simulation))
        return engines[-1]

    with mock.patch.object(memory_tiers.driver.event_feed, "CHECK_EVENTS", 1):
        made = running(settings, engine_of=engine_of, host_store=lambda: HostStore(folder, disk))
        async with made as gateway:

            def read() -> Settings:
                if world.refuse_reload:
                    return settings.model_copy(update={"logs": Path("/elsewhere")})
                return settings

            reload = Reload(gateway.services, read)
            server = server_over(create_app(gateway, reload), gateway.services)
            world = World(scenario, loop, wall, gateway.services, server, reload, engines[0], disk, folder)
            yield world


def _settings(scenario: Scenario, folder: Path) -> Settings:
    made = _template()
    family = made.families["small"]
    speeds = family.simulation.model_copy(
        update={
            "tokens_per_s": scenario.tokens_per_s,
            "load_bytes_per_s": max(1, round(EXPERT_BYTES / scenario.load_s)),
            "start_s": 0.2,
        }
    )
    return made.model_copy(
        update={
            "accounts": made.accounts.model_copy(update={"file": folder / "accounts.sqlite"}),
            "families": {"small": family.model_copy(update={"simulation": speeds})},
            "tiers": made.tiers.model_copy(
                update={
                    "device": scenario.device * EXPERT_BYTES,
                    "host": scenario.host * EXPERT_BYTES,
                    "max_wait_s": scenario.max_wait_s,
                    "min_residency_s": scenario.min_residency_s,
                    "ttl_s": scenario.ttl_s,
                    "policy": scenario.policy,
                    "max_queue": scenario.max_queue,
                }
            ),
            "server": made.server.model_copy(
                update={
                    "stall_timeout_s": scenario.stall_timeout_s,
                    "breaker_failures": scenario.breaker_failures,
                    "limits": made.server.limits.model_copy(update={"requests": scenario.requests}),
                }
            ),
        }
    )


@cache
def _template() -> Settings:
    """Five prepared experts and their composition, made once in a process."""
    folder = Path(tempfile.mkdtemp(prefix="coe-simulated-experts-"))
    atexit.register(shutil.rmtree, folder)
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir()
    save_file({"weight": np.zeros(250, np.float32)}, checkpoint / "model.safetensors")
    (checkpoint / "config.json").write_text(
        json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama"})
    )
    (checkpoint / "tokenizer.json").write_text("{}")
    (checkpoint / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    (checkpoint / "generation_config.json").write_text(json.dumps({"eos_token_id": 2}))
    keys: list[Any] = [{"name": name, "key": SECRETS[name]} for name in ("first", "second")]
    keys.append(
        {"name": "narrow", "key": SECRETS["narrow"], "requests_per_minute": 2, "tokens_per_minute": 500}
    )
    tree = {
        "store": str(folder / "store"),
        "logs": str(folder / "logs"),
        "tiers": {"device": 2 * EXPERT_BYTES, "host": 2 * EXPERT_BYTES},
        "families": {"small": {"mode": "simulated", "max_model_len": 200_000}},
        "experts": {name: {"family": "small", "checkpoint": {"folder": str(checkpoint)}} for name in EXPERTS},
        "compositions": {"coe": {"artifact": str(ROOT / "router" / "embedded")}},
        "server": {"port": 0, "drain_s": 5, "api_keys": keys},
    }
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(tree, sort_keys=False))
    made = load(file)
    for name, expert in made.experts.items():
        prepare(name, expert, made.store)
    return made
