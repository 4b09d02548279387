"""``coe bench tiers``."""

import argparse
from pathlib import Path

from server.cli.arguments import Parent, add_verb, positive
from server.cli.bench.modules import benchmark
from server.cli.output import write_json


def add_to(bench: Parent) -> None:
    made = add_verb(
        bench,
        "tiers",
        bench_tiers,
        "what deciding costs, and policies beside their rivals",
        config=False,
    )
    made.add_argument("--requests", type=positive, default=4000, help="of each simulated trace")
    made.add_argument("--seed", type=int, default=1, help="same seed, same traces")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as JSON")


def bench_tiers(options: argparse.Namespace) -> int:
    from server.cli.progress import Bars

    tiers = benchmark("tiers.measure")
    with Bars() as bars:
        report = tiers.measure(options.requests, options.seed, bars.of("bench"))
    tiers.show(report)
    write_json(options.json, report.json())
    return 0
