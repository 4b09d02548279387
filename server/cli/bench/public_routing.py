"""``coe bench public-routing``: its options, and what it prints."""

import argparse
from pathlib import Path

from router.settings import FIVE_EXPERTS
from server.cli.arguments import Parent, add_verb
from server.cli.bench.modules import benchmark
from server.cli.output import write_json
from server.cli.progress import Bars
from server.cli.router.outputs import check_file
from server.cli.router.sizes import parameters
from server.config.settings import SettingsError


def add_to(bench: Parent) -> None:
    made = add_verb(
        bench,
        "public-routing",
        bench_public,
        "the router's predictions on grades that others published",
        config=False,
    )
    made.add_argument("--routellm", type=Path, help="a checkout of github.com/lm-sys/RouteLLM")
    made.add_argument("--routerarena", type=Path, help="a checkout of github.com/RouteWorks/RouterArena")
    made.add_argument(
        "--embedder", default="minilm-l6-int8", help="for RouteLLM's prompts; minilm-l6-int8 by default"
    )
    made.add_argument("--cache", type=Path, metavar="FILE", help="keep their embeddings there between runs")
    made.add_argument(
        "--artifact",
        type=Path,
        default=FIVE_EXPERTS,
        help="folder of the router for RouterArena's prompts; the one of the paper's five experts by default",
    )
    made.add_argument(
        "--budgets", default="15B,31B,54B", metavar="SIZE,...", help="of maps whose robustness is measured"
    )
    made.add_argument(
        "--trained-on",
        type=Path,
        metavar="FILE",
        help="the artifact's: its prompts are left out of the score",
    )
    made.add_argument("--seed", type=int, default=0, help="same seed, same figures")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as JSON")


def bench_public(options: argparse.Namespace) -> int:
    if options.routellm is None and options.routerarena is None:
        raise SettingsError("give --routellm or --routerarena, a checkout of what is published")
    check_file("--json", options.json)
    written: dict[str, object] = {}
    if options.routellm is not None:
        written |= _routellm(options)
    if options.routerarena is not None:
        written["routerarena"] = _routerarena(options)
    write_json(options.json, written)
    return 0


def _routellm(options: argparse.Namespace) -> dict[str, object]:
    from router.embedders.registry import embedder_named

    embedder, measuring = embedder_named(options.embedder), benchmark("public_routing.measure").measure
    with Bars() as bars:
        report = measuring(options.routellm, embedder, options.cache, options.seed, bars.of("bench"))
    benchmark("public_routing.tables").show(report)
    return dict(report.json())


def _routerarena(options: argparse.Namespace) -> dict[str, object]:
    from router.router import Router

    budgets = [parameters("--budgets", each) for each in options.budgets.split(",")]
    router, measuring = Router.load(options.artifact), benchmark("public_routing.arena").measure_arena
    with Bars() as bars:
        report = measuring(
            options.routerarena, router, budgets, options.trained_on, options.seed, bars.of("bench")
        )
    benchmark("public_routing.tables").show_arena(report)
    return dict(report.json())
