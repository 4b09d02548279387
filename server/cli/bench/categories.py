"""``coe bench doubts`` and ``coe bench embedders``: their options, and what they print."""

import argparse
from pathlib import Path

from server.cli.arguments import Parent, add_verb
from server.cli.bench.modules import benchmark
from server.cli.output import write_json
from server.cli.progress import Bars


def add_to(bench: Parent) -> None:
    doubts = add_verb(
        bench, "doubts", bench_doubts, "whether prompts of a kind never seen are doubted", config=False
    )
    doubts.add_argument(
        "--without", nargs="+", default=[], metavar="PREFIX", help="ids to leave out, one prefix at a time"
    )
    doubts.add_argument(
        "--without-label", nargs="+", default=[], metavar="LABEL", help="labels to leave out, one at a time"
    )
    embedders = add_verb(
        bench,
        "embedders",
        bench_embedders,
        "how well each embedder and classifier tells labels",
        config=False,
    )
    embedders.add_argument(
        "--part", default="", metavar="PREFIX", help="ids that are also measured by themselves"
    )
    embedders.add_argument(
        "--plain", type=Path, metavar="FILE", help="prompts under [label] headings that are also measured"
    )
    for parser in (doubts, embedders):
        parser.add_argument(
            "--data", type=Path, required=True, help="JSON lines with id, prompt and category"
        )
        parser.add_argument("--cache", type=Path, metavar="FILE", help="keep embeddings there between runs")
        parser.add_argument("--seed", type=int, default=0, help="same seed, same figures")
        parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as JSON")


def bench_doubts(options: argparse.Namespace) -> int:
    from router.data.dataset import read_examples
    from router.errors import DatasetError

    bench = benchmark("categories.doubts")
    kinds = [bench.Kind(name, label=False) for name in options.without]
    kinds += [bench.Kind(name, label=True) for name in options.without_label]
    if not kinds:
        raise DatasetError("nothing is left out; name ids with --without, or labels with --without-label")
    examples = read_examples(options.data)
    with Bars() as bars:
        report = bench.measure(examples, kinds, bars.of("bench"), cache=options.cache, seed=options.seed)
    benchmark("categories.tables").show_doubts(report)
    write_json(options.json, report.json())
    return 0


def bench_embedders(options: argparse.Namespace) -> int:
    from router.data.dataset import read_examples
    from router.data.plain_prompts import plain_prompts

    bench = benchmark("categories.embedders")
    trial = bench.Trial(
        read_examples(options.data),
        options.part,
        [] if options.plain is None else plain_prompts(options.plain),
        options.cache,
        options.seed,
    )
    with Bars() as bars:
        report = bench.measure(trial, bars.of("bench"))
    benchmark("categories.tables").show_embedders(report)
    write_json(options.json, report.json())
    return 0
