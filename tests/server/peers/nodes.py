"""Nodes in processes of their own, over simulated engines, that know each other."""

import asyncio
import contextlib
import os
import random
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.server.conftest import EXPERTS, ROOT, chat

SECRET = "a secret that all nodes of a test share"
PATIENCE_S = 300.0


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nothing listens on."""
    with contextlib.ExitStack() as taken:
        sockets = [taken.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@dataclass
class Node:
    """A node. ``config``: its file. ``said``: its output so far."""

    config: Path
    port: int
    node_port: int
    options: tuple[str, ...] = ()
    program: tuple[str, ...] = ("server.cli",)
    """The module that is run in the place of ``coe``, and its first arguments."""
    process: asyncio.subprocess.Process | None = None
    said: bytearray = field(default_factory=bytearray)
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    reading: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.node_port}"

    async def start(self) -> None:
        """Starts it and waits until it is ready."""
        self.said.clear()
        command = (sys.executable, "-m", *self.program, "serve", "--config", str(self.config), *self.options)
        self.process = await asyncio.create_subprocess_exec(
            *command,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self.reading = asyncio.create_task(self._read(self.process))
        await self.says("Ready on")

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while piece := await process.stdout.read(2**16):
            self.said += piece
            self.heard.set()
        self.heard.set()

    async def says(self, text: str) -> None:
        """Waits until its output has ``text``."""
        async with asyncio.timeout(PATIENCE_S):
            while text.encode() not in self.said:
                assert self.reading is None or not self.reading.done(), self.said.decode()
                self.heard.clear()
                await self.heard.wait()

    def forget(self) -> None:
        """Lets ``says`` wait for what comes from now on."""
        self.said.clear()

    async def end(self, number: signal.Signals) -> int:
        """Sends it a signal, and waits for its end."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(PATIENCE_S):
            code = await self.process.wait()
        if self.reading is not None:
            await self.reading
        return code

    async def knows(self, *others: "Node") -> None:
        for other in others:
            await self.says(f"node {other.address} answers")


@contextlib.asynccontextmanager
async def nodes(
    folder: Path,
    count: int,
    peers: dict[int, list[str]] | None = None,
    *,
    tls: bool = False,
    placement: dict[str, Any] | None = None,
    host: str | None = None,
    weights: str = "auto",
    server: dict[str, Any] | None = None,
    batches: bool = False,
    programs: Mapping[int, tuple[str, ...]] | None = None,
    options: Mapping[int, tuple[str, ...]] | None = None,
    **simulation: Any,
) -> AsyncIterator[list[Node]]:
    """As many nodes as ``count``, which know each other. ``folder`` has ``config.yaml`` with prepared
    experts; ``peers``: other addresses than the nodes' own, by the node's number;
    ``placement``: rules, without which experts stay where requests bring them; ``host``: the host tier;
    ``weights``: as ``cluster.weights_from_nodes``; ``server``: more of that part of the configuration;
    ``programs``: what is run in the place of ``coe``, and ``options`` of ``coe serve``, by the node's
    number."""
    ports = free_ports(2 * count)
    made = []
    addresses = [f"127.0.0.1:{port}" for port in ports[count:]]
    for number in range(count):
        tree = yaml.safe_load((folder / "config.yaml").read_text())
        tree["state"] = str(folder / f"node{number}")
        tree["server"] = {"port": ports[number], "drain_s": 20, "breaker_failures": 0} | (server or {})
        if batches:
            tree["batches"] = {}
        tree["families"]["small"]["simulation"] = {"tokens_per_s": 200} | simulation
        others = (peers or {}).get(number, addresses)
        tree["cluster"] = {"port": ports[count + number], "secret": SECRET, "peers": others, "tls": tls}
        tree["cluster"] |= {"placement": placement, "event_log": str(folder / f"placed{number}.jsonl")}
        tree["cluster"]["weights_from_nodes"] = weights
        if host is not None:
            tree["tiers"]["host"] = host
        file = folder / f"node{number}.yaml"
        file.write_text(yaml.safe_dump(tree))
        program = (programs or {}).get(number, ("server.cli",))
        its_own = (options or {}).get(number, ())
        made.append(Node(file, ports[number], ports[count + number], its_own, program))
    try:
        await asyncio.gather(*(node.start() for node in made))
        for node in made:
            if not peers:
                await node.knows(*(other for other in made if other is not node))
        yield made
    finally:
        for node in made:
            if node.process is not None:
                await node.end(signal.SIGKILL)


async def ask(
    http: httpx.AsyncClient, node: Node, model: str, tokens: int = 8, **fields: Any
) -> httpx.Response:
    body = chat(model=model, max_tokens=tokens, **fields)
    return await http.post(f"{node.url}/v1/chat/completions", json=body)


async def stream(http: httpx.AsyncClient, node: Node, model: str, tokens: int) -> AsyncIterator[str]:
    """Yields the events of a stream. Raises HTTPStatusError before the first."""
    body = chat(model=model, max_tokens=tokens, stream=True)
    async with http.stream("POST", f"{node.url}/v1/chat/completions", json=body) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                yield line.removeprefix("data: ")


def any_expert(chance: random.Random) -> str:
    return chance.choice(EXPERTS)
