"""Measures how many answers several nodes give in a second where their engines bound them."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from benchmarks.cluster.local_nodes import EXPERTS, LocalNode, on_device

TOKENS = 4
BOUND = {"tokens_per_s": 20.0, "switch_s": 0.0, "streams": 8}
"""Bounds an engine to 40 answers of ``TOKENS`` a second, far below what a gateway passes on."""
CLIENTS = 24
"""Clients for each node, three times what its engine computes at once."""
MEASURED_S = 10.0


@dataclass(frozen=True, slots=True)
class Bound:
    """``per_s``: requests a second of as many nodes, where engines bound them. ``factor``: beside one
    node's."""

    nodes: int
    per_s: float
    factor: float


async def rate(http: httpx.AsyncClient, nodes: Sequence[LocalNode]) -> float:
    """Returns the answers a second of clients that ask again at once, each of one node for all experts in
    turn, once the first answers are there."""
    for number, expert in enumerate(EXPERTS):
        await on_device(http, nodes[number % len(nodes)], expert, nodes[number % len(nodes)])
    answered, stop = 0, asyncio.Event()

    async def client(first: int) -> None:
        nonlocal answered
        number = first
        while not stop.is_set():
            node = nodes[number % len(nodes)]
            assert await node.ask(http, EXPERTS[number // len(nodes) % 6], TOKENS, f"{first} {number}") == 200
            answered, number = answered + 1, number + len(nodes)

    clients = [asyncio.create_task(client(number)) for number in range(CLIENTS * len(nodes))]
    await asyncio.sleep(MEASURED_S / 5)
    before, began = answered, time.perf_counter()
    await asyncio.sleep(MEASURED_S)
    rate = (answered - before) / (time.perf_counter() - began)
    stop.set()
    await asyncio.gather(*clients)
    return rate
