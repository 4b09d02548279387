"""``coe bench public-routing``: its options, and what it prints."""

import argparse
from pathlib import Path

from server.cli.arguments import Parent, add_verb
from server.cli.bench.modules import benchmark
from server.cli.output import write_json
from server.cli.progress import Bars
from server.cli.router.outputs import check_file


def add_to(bench: Parent) -> None:
    made = add_verb(
        bench,
        "public-routing",
        bench_public,
        "the router's predictions on grades that others published",
        config=False,
    )
    made.add_argument("--routellm", type=Path, required=True, help="a checkout of github.com/lm-sys/RouteLLM")
    made.add_argument("--embedder", default="minilm-l6-int8", help="minilm-l6-int8 by default")
    made.add_argument("--cache", type=Path, metavar="FILE", help="keep embeddings there between runs")
    made.add_argument("--seed", type=int, default=0, help="same seed, same figures")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as JSON")


def bench_public(options: argparse.Namespace) -> int:
    from router.embedders.registry import embedder_named

    check_file("--json", options.json)
    measuring = benchmark("public_routing.measure").measure
    with Bars() as bars:
        report = measuring(
            options.routellm, embedder_named(options.embedder), options.cache, options.seed, bars.of("bench")
        )
    benchmark("public_routing.tables").show(report)
    write_json(options.json, report.json())
    return 0
