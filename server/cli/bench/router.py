"""``coe bench router``: its options, and what it prints."""

import argparse
from pathlib import Path

import router
from server.cli.arguments import Parent, add_verb, positive
from server.cli.bench.modules import benchmark
from server.cli.output import write_json
from server.cli.progress import Bars

EMBEDDED = Path(router.__file__).parent / "embedded"


def add_to(bench: Parent) -> None:
    made = add_verb(
        bench, "router", bench_router, "what a decision costs with each embedder, on one core", config=False
    )
    made.add_argument("--artifact", type=Path, help="folder of the artifact; the embedded one by default")
    made.add_argument(
        "--decisions", type=positive, default=200, help="of each embedder, length and number of rows"
    )
    made.add_argument("--seed", type=int, default=0, help="same seed, same prompts")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as JSON")


def bench_router(options: argparse.Namespace) -> int:
    measuring = benchmark("router.measure").measure
    with Bars() as bars:
        report = measuring(options.artifact or EMBEDDED, options.decisions, options.seed, bars.of("bench"))
    benchmark("router.tables").show(report)
    write_json(options.json, report.json())
    return 0
