"""Nodes of this machine over simulated engines, for ``coe bench cluster``."""

import asyncio
import contextlib
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from benchmarks.gateway.upstream import checkpoint
from experts.checkpoints.prepare import prepare
from server.config.settings import load

EXPERTS = tuple(f"expert-{number}" for number in range(6))
PATIENCE_S = 300.0
_LOOK_S = 0.05


@dataclass(eq=False)
class LocalNode:
    """A node that runs."""

    process: asyncio.subprocess.Process
    url: str
    address: str

    def processor_s(self) -> float:
        """Returns the processor seconds that it has used so far."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    def memory(self) -> tuple[int, int]:
        """Returns the bytes of the node's process and of a gateway process beside it, each with its part of
        what several share."""
        process = psutil.Process(self.process.pid)
        beside = next(each for each in process.children() if "server.worker" in each.cmdline())
        return process.memory_full_info().pss, beside.memory_full_info().pss

    async def status(self, http: httpx.AsyncClient) -> dict[str, Any]:
        found: dict[str, Any] = (await http.get(f"{self.url}/v1/coe/cluster")).json()
        return found

    async def load(self, http: httpx.AsyncClient, expert: str) -> None:
        (await http.post(f"{self.url}/v1/coe/experts/{expert}/load")).raise_for_status()

    async def ask(self, http: httpx.AsyncClient, expert: str, tokens: int, said: object = "hello") -> int:
        """Asks for a whole answer; returns its status, 0 where none came. Requests in which the same is
        ``said`` are one conversation, which stays with a node where it can."""
        body = {"model": expert, "messages": [{"role": "user", "content": f"{said}"}], "max_tokens": tokens}
        try:
            return (await http.post(f"{self.url}/v1/chat/completions", json=body)).status_code
        except httpx.HTTPError:
            return 0


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Waits until ``condition()``, a coroutine, gives something true."""
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():  # noqa: ASYNC110  what is awaited happens in other processes
            await asyncio.sleep(_LOOK_S)


async def on_device(http: httpx.AsyncClient, node: LocalNode, expert: str, watcher: LocalNode) -> None:
    """Brings the expert to the node's device, and waits until ``watcher`` knows."""
    await node.load(http, expert)

    async def known() -> bool:
        told = (await watcher.status(http))["nodes"]
        of = next(each for each in told if each["address"] == node.address)
        return bool(of["experts"].get(expert) == "device")

    await until(known)


@contextlib.asynccontextmanager
async def local_nodes(
    folder: Path,
    count: int,
    http: httpx.AsyncClient,
    *,
    tls: bool = False,
    placement: dict[str, Any] | None = None,
    device: str = "1MB",
    processes: int = 1,
    simulation: Mapping[str, Any],
) -> AsyncIterator[list[LocalNode]]:
    """Yields nodes that know each other. ``folder``: an empty one."""
    await asyncio.to_thread(folder.mkdir, parents=True)
    source, ports, secret = checkpoint(folder / "checkpoint"), _free_ports(2 * count), secrets.token_hex(32)
    tree: dict[str, Any] = {
        "store": str(folder / "store"),
        "tiers": {"device": device, "host": "1MB"},
        "families": {"small": {"mode": "simulated", "max_model_len": 4096, "simulation": dict(simulation)}},
        "experts": {
            name: {"family": "small", "checkpoint": {"folder": str(source)}, "chat_template": None}
            for name in EXPERTS
        },
    }
    addresses = [f"127.0.0.1:{port}" for port in ports[count:]]
    files = []
    for number in range(count):
        file = folder / f"node{number}.yaml"
        cluster = {"port": ports[count + number], "secret": secret, "peers": addresses, "tls": tls}
        server = {"port": ports[number], "drain_s": 5, "processes": processes}
        own = {"state": str(folder / f"state{number}"), "server": server}
        file.write_text(yaml.safe_dump(tree | own | {"cluster": cluster | {"placement": placement}}))
        files.append(file)
    settings = load(files[0])
    for name, expert in settings.experts.items():
        await asyncio.to_thread(prepare, name, expert, settings.store)
    made: list[LocalNode] = []
    try:
        for file, port, address in zip(files, ports, addresses, strict=False):
            command = (sys.executable, "-m", "server.cli", "serve", "--config", str(file))
            with (folder / f"{file.stem}.log").open("wb") as log:
                process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
            made.append(LocalNode(process, f"http://127.0.0.1:{port}", address))
        for node in made:
            await until(partial(_all_up, http, node, count))
        yield made
    finally:
        for node in made:
            if node.process.returncode is None:
                node.process.send_signal(signal.SIGKILL)
            await node.process.wait()


async def _all_up(http: httpx.AsyncClient, node: LocalNode, count: int) -> bool:
    assert node.process.returncode is None, "it runs"
    try:
        if (await http.get(f"{node.url}/ready")).status_code != 200:
            return False
        if count == 1:
            return True
        nodes = (await node.status(http))["nodes"]
    except (httpx.HTTPError, KeyError):
        return False
    return sum(each["state"] in ("up", "this node") for each in nodes) == count


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as taken:
        sockets = [taken.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
