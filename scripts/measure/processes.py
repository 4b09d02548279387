"""Measures what an answer costs each process of a gateway: alone, and beside the node's process.

    python -m scripts.measure.processes --requests 2000

Clients ask one process at a time, over connections that this one has. The engine is simulated, in a process
of its own. Processor time is read from /proc; rates are not measured, for which there are too few cores.
"""

import argparse
import asyncio
import contextlib
import os
import sys
import tempfile
from pathlib import Path

import orjson
import yaml

from benchmarks.gateway import upstream
from benchmarks.gateway.cpu import children, cpu_seconds
from benchmarks.gateway.load import PATH, Kind
from benchmarks.gateway.our_gateway import ROUTED, OurGateway
from benchmarks.gateway.pinned import Pinned, free_port
from experts.engines.http_connection import HttpConnection

CONNECTIONS = 8
KEY = "sk-that-has-limits"


def body_of(model: str, kind: Kind) -> bytes:
    """Returns a request for a whole answer of 16 tokens, or for a stream of 32 events."""
    asked = {"model": model, "messages": [{"role": "user", "content": "What is the integral of x^2?"}]}
    more = {"stream": True, "max_tokens": 32} if kind == "stream" else {"max_tokens": 16}
    return orjson.dumps(asked | more)


def sent(body: bytes, key: str) -> bytes:
    head = f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return f"{head}authorization: Bearer {key}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


async def asked(connection: HttpConnection, request: bytes) -> None:
    """Asks, and reads the answer to its end. Raises ConnectionEnded."""
    await connection.ask(request)
    assert connection.status == 200, connection.status
    while await connection.read():
        pass


async def connections_of(pid: int, port: int) -> list[HttpConnection]:
    """Opens connections until the process ``pid`` has enough of them; closes the others."""
    kept: list[HttpConnection] = []
    others: list[HttpConnection] = []
    loop = asyncio.get_running_loop()
    while len(kept) < CONNECTIONS:
        transport, connection = await loop.create_connection(lambda: HttpConnection(loop), "127.0.0.1", port)
        await asked(connection, b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        own = transport.get_extra_info("sockname")[1]
        (kept if _has(pid, port, own) else others).append(connection)
    for connection in others:
        connection.close()
    return kept


def _has(pid: int, port: int, client: int) -> bool:
    """Whether the process has the other end of the connection from port ``client``."""
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ends = (f"{port:04X}", f"{client:04X}")
    inode = next(row[9] for row in rows if (row[1][-4:], row[2][-4:]) == ends)
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            if os.readlink(each) == f"socket:[{inode}]":
                return True
    return False


async def measured(pid: int, port: int, request: bytes, count: int, watched: list[int]) -> list[float]:
    """Has the process answer ``count`` requests; returns the microseconds of each that ``watched`` took."""
    connections = await connections_of(pid, port)

    async def client(connection: HttpConnection, requests: int) -> None:
        for _ in range(requests):
            await asked(connection, request)

    async def all_ask(requests: int) -> None:
        await asyncio.gather(*(client(each, requests // CONNECTIONS) for each in connections))

    await all_ask(count // 4)  # warm
    before = [cpu_seconds([each]) for each in watched]
    await all_ask(count)
    after = [cpu_seconds([each]) for each in watched]
    for each in connections:
        each.close()
    return [(late - early) / count * 1e6 for early, late in zip(before, after, strict=True)]


async def measure(folder: Path, kind: Kind, processes: int, requests: int) -> None:
    """Prints a line for each of the gateway's processes that clients ask."""
    upstream.checkpoint(folder / upstream.CHECKPOINT)
    config = OurGateway(upstream.speeds(kind)).prepare(folder)
    tree = yaml.safe_load(config.read_text())
    limited = {"key": KEY, "name": "limited", "requests_per_minute": 10_000_000}
    tree["server"] = {"processes": processes, "api_keys": [limited, {"key": "sk-free", "name": "free"}]}
    config.write_text(yaml.safe_dump(tree))
    port = free_port()
    command = [sys.executable, "-m", "server.cli", "serve", "--config", str(config), "--port", str(port)]
    served = await Pinned.launch(command, 0, port, folder / "gateway.log")
    try:
        await ready(folder / "gateway.log")
        beside = [pid for pid in children(served.pid) if b"server.worker" in _command(pid)]
        names = {served.pid: "node", **dict.fromkeys(beside, "beside")}
        for pid, name in names.items():
            for model, key in ((upstream.EXPERT, "sk-free"), (upstream.EXPERT, KEY), (ROUTED, "sk-free")):
                request = sent(body_of(model, kind), key)
                costs = await measured(pid, port, request, requests, [*names])
                shown = ", ".join(
                    f"{names[each]} {cost:.0f}" for each, cost in zip(names, costs, strict=True)
                )
                limits = " with limits" if key == KEY else ""
                where = f"{processes} processes, {name} asked" if beside else "1 process"
                print(
                    f"{kind:<6} {where:<26} {model}{limits}: {shown}, together {sum(costs):.0f} us",
                    flush=True,
                )
    finally:
        await served.stop()


async def ready(log: Path) -> None:
    """Waits until the gateway says that it is ready."""
    while "Ready on" not in log.read_text():  # noqa: ASYNC110, ASYNC240  another process writes it
        await asyncio.sleep(0.1)


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=2000, help="of each kind")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="numbers of processes")
    options = parser.parse_args()
    kinds: tuple[Kind, ...] = ("plain", "stream")
    for kind in kinds:
        for processes in options.processes:
            with tempfile.TemporaryDirectory() as folder:
                asyncio.run(measure(Path(folder), kind, processes, options.requests))


if __name__ == "__main__":
    main()
