"""A gateway of several processes over a simulated engine, and which of them has a client's connection."""

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.server.peers.nodes import PATIENCE_S, Node, free_ports

URL = re.compile(rb"Ready on (\S+)/v1")


class Gateway(Node):
    """A gateway whose node has other processes beside it."""

    @property
    def node(self) -> int:
        """The process that has the tiers."""
        assert self.process is not None
        return self.process.pid

    @property
    def beside(self) -> list[int]:
        """The other gateway processes."""
        return [pid for pid in children(self.node) if b"server.worker" in command_of(pid)]

    @property
    def engine(self) -> int:
        (found,) = (pid for pid in children(self.node) if b"simulated.server" in command_of(pid))
        return found

    async def client_of(self, pid: int, **options: Any) -> httpx.AsyncClient:
        """A client whose one connection the process ``pid`` has."""
        limits = httpx.Limits(max_connections=1, keepalive_expiry=None)
        refused: list[httpx.AsyncClient] = []
        try:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    client = httpx.AsyncClient(
                        base_url=self.url, timeout=PATIENCE_S, limits=limits, **options
                    )
                    await client.get("/health")
                    if self.has(pid, client):
                        return client
                    refused.append(client)  # and keeps its connection, so that the next goes elsewhere
        finally:
            for client in refused:
                await client.aclose()

    def has(self, pid: int, client: httpx.AsyncClient) -> bool:
        """Whether ``pid`` has the other end of the client's connection."""
        pool = client._transport._pool  # type: ignore[attr-defined]
        stream = pool.connections[0]._connection._network_stream
        port = stream.get_extra_info("socket").getsockname()[1]
        rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        end = f"{self.port:04X}", f"{port:04X}"
        inode = next(row[9] for row in rows if (row[1][-4:], row[2][-4:]) == end)
        return inode in sockets(pid)


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def sockets(pid: int) -> set[str]:
    """The inodes of a process's sockets."""
    found = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            target = os.readlink(each)
            if target.startswith("socket:["):
                found.add(target[len("socket:[") : -1])
    return found


@contextlib.asynccontextmanager
async def gateway_of(
    folder: Path, processes: int = 2, keys: Sequence[dict[str, Any]] = (), **simulation: Any
) -> AsyncIterator[Gateway]:
    """A gateway of so many processes; ``folder`` has ``config.yaml`` with prepared experts."""
    (port,) = free_ports(1)
    tree = yaml.safe_load((folder / "config.yaml").read_text())
    tree["server"] = {"port": port, "drain_s": 20, "processes": processes, "api_keys": [*keys]}
    tree["families"]["small"]["simulation"] = {"tokens_per_s": 200} | simulation
    file = folder / "several.yaml"
    file.write_text(yaml.safe_dump(tree))
    made = Gateway(file, port, 0)
    try:
        await made.start()
        yield made
    finally:
        if made.process is not None:
            await made.end(signal.SIGKILL)
