"""``coe bench cluster``: its options."""

import argparse
import asyncio
from pathlib import Path

from server.cli.arguments import Parent, add_verb, positive
from server.cli.bench.modules import benchmark
from server.cli.output import write_json


def add_to(bench: Parent) -> None:
    made = add_verb(
        bench,
        "cluster",
        bench_cluster,
        "several nodes: hop, cost, loss, replica",
        config=False,
    )
    made.add_argument("--requests", type=positive, default=400, help="of each kind")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as JSON")


def bench_cluster(options: argparse.Namespace) -> int:
    measuring = benchmark("cluster.measure").measure(options.requests, print)
    report = asyncio.run(measuring)
    benchmark("cluster.tables").show(report)
    write_json(options.json, report.json())
    return 0
