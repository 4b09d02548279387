"""Measure what the fast path spares: whole answers with and without it, by one application in one run.

    python -m scripts.measure.fast_path --rounds 12

One process serves the same application on two ports, on the second without the fast path, before a simulated
engine that answers at once. Both are asked in turns of a second.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import uvloop

from benchmarks.gateway import upstream
from benchmarks.gateway.cpu import children
from benchmarks.gateway.generator import Generator
from benchmarks.gateway.load import Load
from benchmarks.gateway.our_gateway import OurGateway
from benchmarks.gateway.pinned import Cores, Pinned, free_port
from server import logs
from server.app import FAST_ENDPOINTS, create_app
from server.compose import running
from server.config.settings import load
from server.reload.reload import Reload
from server.serve import http_server
from server.transport.admission_gate import AdmissionGate
from server.transport.fast_path import FastPath
from server.transport.sockets import listen

STREAMS = 16


async def serve(config: Path, ports: tuple[int, int]) -> None:
    """Serves on both ports, with and without the fast path."""
    settings = load(config)
    async with running(settings) as gateway:
        app = create_app(gateway, Reload(gateway.services, lambda: settings))
        limits = settings.server.limits
        gates = AdmissionGate(FastPath(app, FAST_ENDPOINTS), limits), AdmissionGate(app, limits)
        servers = [http_server(gate, gate, gateway.services) for gate in gates]
        await gateway.services.tiers.ready()
        sockets = [listen("127.0.0.1", port) for port in ports]
        await asyncio.gather(
            *(server.serve(sockets=[socket]) for server, socket in zip(servers, sockets, strict=True))
        )


async def measure(folder: Path, cores: Cores, rounds: int) -> None:
    """Prints requests/s and processor time per request, medians of ``rounds``."""
    upstream.checkpoint(folder / upstream.CHECKPOINT)
    config = OurGateway(upstream.speeds("plain")).prepare(folder)
    ports = {"fast path": free_port(), "FastAPI alone": free_port()}
    command = [sys.executable, "-m", "scripts.measure.fast_path", "--serve", str(config)]
    command += ["--ports", *map(str, ports.values())]
    served = await Pinned.launch(command, cores.proxy, ports["fast path"], folder / "gateway.log")
    try:
        await served.ready(upstream.EXPERT)
        for pid in children(served.pid):
            os.sched_setaffinity(pid, {cores.upstream})
        async with await Generator.launch(cores.generator) as generator:
            rates, costs = defaultdict(list), defaultdict(list)
            for number in range(rounds):
                for name, port in ports.items():
                    made = await generator.make(
                        Load(
                            port=port,
                            model=upstream.EXPERT,
                            kind="plain",
                            tokens=16,
                            seconds=1.0,
                            warming_s=0.3,
                            streams=STREAMS,
                            seed=number,
                            watched={"gateway": (served.pid,)},
                        )
                    )
                    if made.failures or not made.requests:
                        sys.exit(f"{name}: {made.requests} answers, failures: {made.failures}")
                    rates[name].append(made.per_second)
                    costs[name].append(made.cpu_s["gateway"] / made.requests * 1e6)
    finally:
        await served.stop()
    for name in ports:
        rate, cost = statistics.median(rates[name]), statistics.median(costs[name])
        print(f"{name:<14} {rate:7.0f} requests/s {cost:6.0f} us of processor time each")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=12, help="turns of each")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--ports", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        logs.configure(verbose=False)
        uvloop.run(serve(options.serve, tuple(options.ports)))
        return
    cores = Cores.of_this_machine()
    if cores is None:
        parser.error("this needs two cores")
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(Path(folder), cores, options.rounds))


if __name__ == "__main__":
    main()
