"""``coe bench engine``."""

import argparse
import asyncio
from pathlib import Path

from server.cli.arguments import Parent, add_verb, positive
from server.cli.bench.modules import benchmark
from server.cli.output import write_json
from server.config.settings import load
from server.planning.planned import planned


def add_to(bench: Parent) -> None:
    made = add_verb(bench, "engine", bench_engine, "interleaved experts beside other ways to serve them")
    made.add_argument("--experts", type=positive, nargs="+", default=[1, 2, 4], help="how many experts")
    made.add_argument(
        "--streams", type=positive, nargs="+", default=[16, 64], help="how many streams ask at once"
    )
    made.add_argument("--tokens", type=positive, default=32, help="tokens of each answer")
    made.add_argument("--requests", type=positive, default=2, help="requests of each stream")
    made.add_argument("--burst", type=positive, default=8, help="bursty: requests in a row for one expert")
    made.add_argument("--repeat", type=positive, default=1, help="repetitions; medians are reported")
    made.add_argument(
        "--llama-python",
        type=Path,
        metavar="FILE",
        help="a Python with llama-cpp-python's server, to compare",
    )
    made.add_argument(
        "--llama-model", type=Path, metavar="FILE", help="its GGUF file; the embedded base by default"
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as JSON")


def bench_engine(options: argparse.Namespace) -> int:
    from server.cli.progress import Bars

    engine, plan = (
        benchmark("engine.measure"),
        benchmark("engine.workload").Plan(
            experts=tuple(options.experts),
            streams=tuple(options.streams),
            tokens=options.tokens,
            requests=options.requests,
            burst=options.burst,
            repeat=options.repeat,
        ),
    )
    settings = planned(load(options.config)).settings
    with Bars() as bars:
        measuring = engine.measure(
            settings, plan, bars.of("bench"), options.llama_python, options.llama_model
        )
        report = asyncio.run(measuring)
    benchmark("engine.tables").show(report)
    write_json(options.json, report.json())
    return 0
