"""``coe bench routers``: its options, and what it prints."""

import argparse
from pathlib import Path
from typing import Any

from server.cli.arguments import Parent, add_verb, positive
from server.cli.bench.modules import benchmark
from server.cli.output import write_json
from server.cli.progress import Bars
from server.cli.router.sizes import parameters, sizes
from server.cli.tiers.simulation_plot import matplotlib

BUDGETS = (8.0, 15.0, 31.0, 40.0, 54.0, 59.0, 65.0)
"""Billions; those between the cheapest expert and the dearest are reported where none are named."""


def add_to(bench: Parent) -> None:
    routers = add_verb(
        bench,
        "routers",
        bench_routers,
        "a trained router beside others' ways to route, on grades",
        config=False,
    )
    routers.add_argument(
        "--train", type=Path, required=True, help="JSON lines with id, prompt, category, scores"
    )
    test = routers.add_mutually_exclusive_group(required=True)
    test.add_argument("--test", type=Path, help="JSON lines of the same form, with other prompts")
    test.add_argument(
        "--split",
        action="store_true",
        help="test on the fifth of --train that coe router train does not fit to",
    )
    routers.add_argument(
        "--experts", required=True, metavar="NAME=SIZE,...", help="with their sizes, such as small=7.62B"
    )
    routers.add_argument("--artifact", type=Path, help="folder of a router to put beside the rivals")
    routers.add_argument("--budgets", metavar="SIZE,...", help="active parameters to compare at, such as 31B")
    routers.add_argument(
        "--resamples", type=positive, default=2000, help="of the test prompts, for intervals"
    )
    routers.add_argument("--cache", type=Path, metavar="FILE", help="keep embeddings there between runs")
    routers.add_argument("--seed", type=int, default=0, help="same seed, same figures")
    routers.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as JSON")
    routers.add_argument("--plot", type=Path, metavar="FILE", help="draw the curves there as PNG")


def bench_routers(options: argparse.Namespace) -> int:
    quality = benchmark("routers.measure")
    if options.plot is not None:
        matplotlib()
    trial = _trial(options)
    with Bars() as bars:
        report = quality.measure_folder(trial, options.artifact, options.cache, bars.of("bench"))
    benchmark("routers.tables").show(report)
    write_json(options.json, report.json())
    if options.plot is not None:
        benchmark("routers.frontier_plot").save(report, options.plot)
    return 0


def _trial(options: argparse.Namespace) -> Any:
    from router.data.dataset import read_examples, split

    examples = read_examples(options.train)
    parts = split(examples)
    test = [*parts.calibration, *parts.held_out] if options.split else read_examples(options.test)
    pool = benchmark("routers.contest").Pool.of(sizes("--experts", options.experts))
    return benchmark("routers.measure").Trial(
        train=parts.fit if options.split else examples,
        test=test,
        pool=pool,
        budgets=_budgets(options.budgets, pool.parameters[0], pool.parameters[-1]),
        resamples=options.resamples,
        seed=options.seed,
    )


def _budgets(text: str | None, cheapest: float, dearest: float) -> tuple[float, ...]:
    if text is None:
        return tuple(budget for budget in BUDGETS if cheapest <= budget <= dearest)
    return tuple(parameters("--budgets", size.strip()) for size in text.split(","))
