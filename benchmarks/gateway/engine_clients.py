"""Compares our HTTP client on Unix sockets with aiohttp's, before the simulated engine.

    python -m benchmarks.gateway.engine_clients [--json FILE]

Both keep their connections and read whole answers of an engine that computes nothing, in turn, round after
round. Where there are two cores, engine and client have one each.
"""

import argparse
import asyncio
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import aiohttp
import orjson
import uvloop

from benchmarks.gateway.load import PATH
from benchmarks.gateway.pinned import ROOT, Cores, on
from benchmarks.gateway.upstream import EXPERT, checkpoint, speeds
from experts.engines.http_client import HttpClient
from experts.engines.process import EngineProcess

BODY = orjson.dumps(
    {
        "model": EXPERT,
        "max_tokens": 32,
        "messages": [{"role": "user", "content": "What is a contract? " * 12}],
    }
)
Ask = Callable[[], Awaitable[bytes]]
"""Sends one request and returns the body of its answer, of status 200."""


@dataclass(frozen=True, slots=True)
class Run:
    """One client's requests of one round."""

    per_second: float
    p50_ms: float
    cpu_us: float
    """Processor time of the client's process for one request."""


@asynccontextmanager
async def ours(socket: Path) -> AsyncIterator[Ask]:
    client = HttpClient(socket)

    async def ask() -> bytes:
        with closing(await client.request("POST", PATH, BODY, again=True)) as answer:
            assert answer.status == 200
            return await answer.read()

    yield ask
    await client.close()


@asynccontextmanager
async def aiohttps(socket: Path) -> AsyncIterator[Ask]:
    async with aiohttp.ClientSession(
        connector=aiohttp.UnixConnector(str(socket), limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"content-type": "application/json"},
        auto_decompress=False,
    ) as session:

        async def ask() -> bytes:
            async with session.post(f"http://engine{PATH}", data=BODY) as answer:
                assert answer.status == 200
                return await answer.read()

        yield ask


CLIENTS: Mapping[str, Callable[[Path], AbstractAsyncContextManager[Ask]]] = {
    "ours": ours,
    "aiohttp": aiohttps,
}


async def run(ask: Ask, connections: int, requests: int) -> Run:
    """Sends ``requests``, ``connections`` at a time."""
    await asyncio.gather(*(ask() for _ in range(connections)))
    left, latencies = iter(range(requests)), list[float]()

    async def some() -> None:
        for _ in left:
            begun = time.perf_counter()
            await ask()
            latencies.append(time.perf_counter() - begun)

    begun, cpu = time.perf_counter(), _cpu_seconds()
    await asyncio.gather(*(some() for _ in range(connections)))
    seconds, cpu = time.perf_counter() - begun, _cpu_seconds() - cpu
    return Run(requests / seconds, 1e3 * median(latencies), 1e6 * cpu / requests)


async def measure(socket: Path, rounds: int, requests: int) -> dict[str, Run]:
    """Returns the medians of each client and number of connections."""
    runs: dict[str, list[Run]] = {}
    for _ in range(rounds):
        for connections in (1, 32):
            for name, client in CLIENTS.items():
                async with client(socket) as ask:
                    found = await run(ask, connections, requests)
                runs.setdefault(f"{name}, {connections} at once", []).append(found)
    return {
        name: Run(
            *(median(values) for values in zip(*(asdict(each).values() for each in found), strict=True))
        )
        for name, found in runs.items()
    }


async def beside_an_engine(
    rounds: int, requests: int, folder: Path, core: int | None = None
) -> dict[str, Run]:
    """Starts the engine, on ``core`` where one is given, with its files in ``folder``, and measures."""
    command = [sys.executable, "-m", "experts.simulated.server", "--uds", "{socket}", "--expert", EXPERT]
    command += [
        "--weights",
        str(checkpoint(folder / "weights")),
        "--speeds",
        speeds("plain").model_dump_json(),
    ]
    pinned = command if core is None else on(core, command)
    engine = await EngineProcess.launch(pinned, {"PYTHONPATH": str(ROOT)}, folder / "engine.log")
    try:
        while not engine.socket.exists():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        return await measure(engine.socket, rounds, requests)
    finally:
        await engine.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="medians are printed")
    parser.add_argument("--requests", type=int, default=5000, help="of a client in a round")
    parser.add_argument("--json", type=Path, help="write the figures there as JSON")
    options = parser.parse_args()
    cores = Cores.of_this_machine()
    if cores is not None:
        os.sched_setaffinity(0, {cores.proxy})
    core = cores.upstream if cores else None
    with tempfile.TemporaryDirectory(prefix="coe-bench-") as folder:
        found = uvloop.run(beside_an_engine(options.rounds, options.requests, Path(folder), core))
    print("| client | requests/s | p50, ms | client's CPU, us |\n|---|---:|---:|---:|")
    for name, each in found.items():
        print(f"| {name} | {each.per_second:,.0f} | {each.p50_ms:.3f} | {each.cpu_us:.0f} |")
    if options.json is not None:
        options.json.write_text(json.dumps({name: asdict(each) for name, each in found.items()}, indent=2))


def _medians(runs: Sequence[Run]) -> Run:
    return Run(
        median(run.per_second for run in runs),
        median(run.p50_ms for run in runs),
        median(run.cpu_us for run in runs),
    )


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
