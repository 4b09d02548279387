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
    made.add_argument("--only-loss", action="store_true", help="measure a node's loss alone")
    made.add_argument("--plot", type=Path, metavar="FILE", help="draw a node's loss there as PNG")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as JSON")


def bench_cluster(options: argparse.Namespace) -> int:
    measuring = benchmark("cluster.measure").measure(options.requests, print, only_loss=options.only_loss)
    report = asyncio.run(measuring)
    benchmark("cluster.tables").show(report)
    write_json(options.json, report.json())
    if options.plot is not None:
        benchmark("cluster.failover_plot").save(report.failover, options.plot)
    return 0
