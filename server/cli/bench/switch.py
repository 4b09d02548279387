"""``coe bench switch``."""

import argparse
import asyncio
from pathlib import Path

from server.cli.arguments import Parent, add_verb, positive
from server.cli.bench.modules import benchmark
from server.cli.output import write_json
from server.config.settings import load
from server.planning.planned import planned


def add_to(bench: Parent) -> None:
    made = add_verb(bench, "switch", bench_switch, "what a switch, a load and a start cost")
    made.add_argument("--runs", type=positive, default=5, help="repetitions; medians are reported")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as JSON")


def bench_switch(options: argparse.Namespace) -> int:
    from server.cli.progress import Bars

    settings = planned(load(options.config)).settings
    with Bars() as bars:
        measuring = benchmark("switch.measure").measure(settings, options.runs, bars.of("bench"))
        report = asyncio.run(measuring)
    benchmark("switch.tables").show(report)
    write_json(options.json, report.json())
    return 0
