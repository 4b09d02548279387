"""Measures the hop between nodes, what a request costs on several, a node's loss, and a replica's time."""

import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.cluster.local_nodes import EXPERTS, PATIENCE_S, LocalNode, local_nodes, on_device, until
from benchmarks.cluster.throughput import BOUND, TOKENS, Bound, rate

FAST = {"tokens_per_s": 1e9, "switch_s": 0.0}
CLIENTS = 8
STEADY_TOKENS_PER_S = 200.0
STEADY_RATE = 40.0
"""Requests a second while a node is lost."""
REPLICA_BYTES_PER_S = 500
"""Sizes the simulated load: an expert of 1,072 bytes takes two seconds."""


@dataclass(frozen=True, slots=True)
class Hop:
    """Milliseconds of requests to the node that has the expert, and to the other. Processor milliseconds."""

    tls: bool
    direct_p50: float
    direct_p99: float
    passed_p50: float
    passed_p99: float


@dataclass(frozen=True, slots=True)
class Scale:
    """``request_ms``: processor time of a request over all nodes. ``factor``: throughput of as many nodes
    beside one, where processors bound it."""

    nodes: int
    request_ms: float
    factor: float


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of a node's process, and of a gateway process beside it, each with its part of what is shared."""

    node: int
    process: int


@dataclass(frozen=True, slots=True)
class Failover:
    """A node killed under load. ``usual_ms``: what requests took at most before the kill, twice the median
    at least. ``normal_s``: seconds after the kill until none took more. ``timeline``: seconds after the kill
    when a request began, and how long it took."""

    requests: int
    failed: int
    median_ms: float
    usual_ms: float
    slowest_ms: float
    normal_s: float
    timeline: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Replica:
    """``transfer_s``: seconds of the load alone; ``order_s``: from the order to the table that has it."""

    transfer_s: float
    order_s: float


@dataclass
class Report:
    hops: list[Hop] = field(default_factory=list)
    scales: list[Scale] = field(default_factory=list)
    bounds: list[Bound] = field(default_factory=list)
    memory: Memory | None = None
    failover: Failover | None = None
    replica: Replica | None = None

    def json(self) -> dict[str, Any]:
        return asdict(self)


async def measure(requests: int, say: Callable[[str], None], *, only_loss: bool = False) -> Report:
    """Measures all; ``requests``: how many of each kind. ``only_loss``: a node's loss alone."""
    report = Report()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=256)
    async with httpx.AsyncClient(timeout=PATIENCE_S, limits=limits) as http:
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            for tls in () if only_loss else (False, True):
                say(f"hop{' over TLS' if tls else ''}")
                async with local_nodes(folder / f"hop{tls}", 2, http, tls=tls, simulation=FAST) as nodes:
                    report.hops.append(await _hop(http, nodes, tls, requests))
            costs: list[float] = []
            for count in () if only_loss else (1, 2, 3):
                say(f"{count} nodes")
                async with local_nodes(folder / f"scale{count}", count, http, simulation=FAST) as nodes:
                    costs.append(await _cost(http, nodes, requests * 2))
                report.scales.append(Scale(count, costs[-1] * 1e3, count * costs[0] / costs[-1]))
            rates: list[float] = []
            for count in () if only_loss else (1, 2, 3):
                say(f"{count} nodes whose engines bound them")
                async with local_nodes(folder / f"bound{count}", count, http, simulation=BOUND) as nodes:
                    rates.append(await rate(http, nodes))
                report.bounds.append(Bound(count, rates[-1], rates[-1] / rates[0]))
            if not only_loss:
                say("memory")
                async with local_nodes(folder / "memory", 1, http, processes=2, simulation=FAST) as (node,):
                    await asyncio.gather(*(node.ask(http, EXPERTS[0], TOKENS) for _ in range(requests)))
                    report.memory = Memory(*node.memory())
            say("a node is lost")
            speed = {"tokens_per_s": STEADY_TOKENS_PER_S}
            async with local_nodes(folder / "failover", 2, http, simulation=speed) as nodes:
                report.failover = await _failover(http, nodes)
            if only_loss:
                return report
            say("a second replica")
            rules = {"copies": 1, "lost_grace_s": 0.0}
            slow = {"tokens_per_s": 10, "load_bytes_per_s": f"{REPLICA_BYTES_PER_S}B"}
            async with local_nodes(folder / "replica", 2, http, placement=rules, simulation=slow) as nodes:
                report.replica = await _replica(http, nodes)
    return report


async def _only_on_second(http: httpx.AsyncClient, nodes: Sequence[LocalNode]) -> str:
    here, there = nodes
    for expert in EXPERTS:
        await on_device(http, there, expert, here)
        if (await here.status(http))["nodes"][0]["experts"].get(expert) != "device":
            return expert
    raise AssertionError("the first node has all experts on its device")


async def _hop(http: httpx.AsyncClient, nodes: Sequence[LocalNode], tls: bool, requests: int) -> Hop:
    expert = await _only_on_second(http, nodes)
    taken: tuple[list[float], list[float]] = ([], [])
    for number in range(requests + 20):
        for node, into in ((nodes[1], taken[0]), (nodes[0], taken[1])):
            began = time.perf_counter()
            assert await node.ask(http, expert, TOKENS) == 200
            if number >= 20:
                into.append(time.perf_counter() - began)
    direct, passed = (np.array(each) * 1e3 for each in taken)
    return Hop(
        tls,
        *(float(np.percentile(each, at)) for each in (direct, passed) for at in (50, 99)),
    )


async def _cost(http: httpx.AsyncClient, nodes: Sequence[LocalNode], requests: int) -> float:
    """Returns the processor seconds of a request, where each node has its part of the experts, and each is
    asked for all of them in turn."""
    for number, expert in enumerate(EXPERTS):
        await on_device(http, nodes[number % len(nodes)], expert, nodes[number % len(nodes)])

    async def client(first: int, many: int) -> None:
        for number in range(first, first + many):
            node, expert = nodes[number % len(nodes)], EXPERTS[number // len(nodes) % 6]
            assert await node.ask(http, expert, TOKENS, f"{first} {number}") == 200

    await asyncio.gather(*(client(each, 20) for each in range(CLIENTS)))
    before = sum(node.processor_s() for node in nodes)
    await asyncio.gather(*(client(each, requests // CLIENTS) for each in range(CLIENTS)))
    used = sum(node.processor_s() for node in nodes) - before
    return used / (requests // CLIENTS * CLIENTS)


async def _failover(http: httpx.AsyncClient, nodes: Sequence[LocalNode]) -> Failover:
    expert = await _only_on_second(http, nodes)
    here, there = nodes
    found: list[tuple[float, float, int]] = []

    async def one() -> None:
        began = time.perf_counter()
        status = await here.ask(http, expert, 8)
        found.append((began, time.perf_counter() - began, status))

    tasks, killed_at = [], 0.0
    for number in range(int(8 * STEADY_RATE)):
        if number == int(4 * STEADY_RATE):
            killed_at = time.perf_counter()
            there.process.kill()
        tasks.append(asyncio.create_task(one()))
        await asyncio.sleep(1 / STEADY_RATE)
    await asyncio.gather(*tasks)
    before = [took for began, took, _ in found if began + took < killed_at]
    median = float(np.median(before))
    usual = max(2 * median, *before)
    after = [(began + took - killed_at, took) for began, took, _ in found if began + took > killed_at]
    late = [ended for ended, took in after if took > usual]
    return Failover(
        requests=len(found),
        failed=sum(status != 200 for *_, status in found),
        median_ms=median * 1e3,
        usual_ms=usual * 1e3,
        slowest_ms=max(took for _, took in after) * 1e3,
        normal_s=max(late, default=0.0),
        timeline=[(began - killed_at, took) for began, took, _ in sorted(found)],
    )


async def _replica(http: httpx.AsyncClient, nodes: Sequence[LocalNode]) -> Replica:
    here, expert = nodes[0], EXPERTS[-1]
    asked = [
        asyncio.create_task(here.ask(http, expert, 400)) for _ in range(30)
    ]  # fewer than would send some elsewhere
    moves: list[dict[str, Any]] = []

    async def ordered() -> bool:
        placement = (await here.status(http))["placement"] or {"moves": []}
        moves[:] = [
            move
            for move in placement["moves"]
            if (move["expert"], move["tier"], move["outcome"]) == (expert, "device", "done")
        ]
        return bool(moves)

    await until(ordered)
    for task in asked:
        task.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    return Replica(1072 / REPLICA_BYTES_PER_S, moves[0]["seconds"])
