"""``coe bench gateway``: its options, and what it prints."""

import argparse
import asyncio
from pathlib import Path

from server.cli.arguments import Parent, add_verb, positive
from server.cli.bench.modules import benchmark
from server.cli.output import write_json
from server.cli.progress import Bars

KINDS = ("plain", "stream")


def add_to(bench: Parent) -> None:
    gateway = add_verb(
        bench,
        "gateway",
        bench_gateway,
        "what the gateway adds to a request, beside other proxies",
        config=False,
    )
    gateway.add_argument("--answers", choices=KINDS, nargs="+", default=list(KINDS), help="both by default")
    gateway.add_argument(
        "--streams",
        type=positive,
        nargs="+",
        default=[1, 32, 128],
        help="how many ask at once for the capacity",
    )
    gateway.add_argument("--tokens", type=positive, default=32, help="tokens of each answer")
    gateway.add_argument("--seconds", type=positive, default=2, help="of each measurement")
    gateway.add_argument("--rounds", type=positive, default=5, help="repetitions; medians are reported")
    gateway.add_argument(
        "--nginx", type=Path, metavar="FILE", help="the program; the one installed by default"
    )
    gateway.add_argument(
        "--router-python", type=Path, metavar="FILE", help="a Python with vllm-router, to compare"
    )
    gateway.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as JSON")


def bench_gateway(options: argparse.Namespace) -> int:
    plan = benchmark("gateway.report").Plan(
        kinds=tuple(options.answers),
        streams=tuple(options.streams),
        tokens=options.tokens,
        seconds=options.seconds,
        rounds=options.rounds,
    )
    with Bars() as bars:
        measuring = benchmark("gateway.measure").measure(
            plan, bars.of("bench"), options.nginx, options.router_python
        )
        report = asyncio.run(measuring)
    benchmark("gateway.tables").show(report)
    write_json(options.json, report.json())
    return 0
