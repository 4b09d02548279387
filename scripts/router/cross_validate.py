"""Evaluates maps on every graded prompt of a file: a router is trained for each fold without it.

    python -m scripts.router.cross_validate --data train.jsonl.gz --experts "small=7.62B,large=70.6B" \\
        --cache vectors.sqlite --budgets 15B,31B,54B --json gains.json

A test of a tenth leaves intervals wider than the gains in question; this one is on all prompts, and takes
``--folds`` times as long as training. Only prompts graded for every expert are measured.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from rich.console import Console

from router.data.dataset import Example, folds, read_examples
from router.embedders.cache import EmbeddingCache
from router.embedders.embedder import Embedder
from router.embedders.registry import embedder_named
from router.errors import RouterError
from router.mapping.budget_solver import Steps
from router.mapping.evaluation import Grades, MapEvaluation, evaluate_map
from router.router import Router
from router.training.train import train
from server.cli.router.sizes import parameters, sizes
from server.config.settings import SettingsError


def cross_validated(
    examples: Sequence[Example],
    experts: dict[str, float],
    budgets: Sequence[float | None],
    *,
    count: int,
    embedder: Embedder,
    cache: Path | None,
    sources: Sequence[str] = (),
    steps: Steps = "two",
) -> list[MapEvaluation]:
    """One for each budget, on all prompts together. ``sources``: beginnings of the ids that are measured;
    all by default."""
    measured = [
        index
        for index, example in enumerate(examples)
        if all(name in example.scores for name in experts)
        and (not sources or example.id.startswith(tuple(sources)))
    ]
    grades = Grades.of([examples[index] for index in measured], experts)
    fold_of = folds(examples, count, salt="outer ")
    chosen = {index: [""] * len(budgets) for index in measured}
    said = Console(stderr=True)
    for fold in range(count):
        with TemporaryDirectory() as folder:
            rest = [example for example, own in zip(examples, fold_of, strict=True) if own != fold]
            made = train(rest, Path(folder), experts=experts, embedder=embedder, cache=cache).artifact
        said.print(f"fold {fold}: {made.cross_validated}, {made.scores!r}")
        router = Router(made, EmbeddingCache(embedder, cache))
        under = [router.under(budget, steps=steps) for budget in budgets]
        decisions = {
            index: under[0].decide(examples[index].prompt) for index in measured if fold_of[index] == fold
        }
        for column, each in enumerate(under):
            for index, decision in decisions.items():
                chosen[index][column] = each.expert_at(decision.cluster, decision.expected)
    return [
        evaluate_map(grades, 0, [chosen[index][column] for index in measured], None, None)
        for column in range(len(budgets))
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--experts", required=True, help="NAME=SIZE,...")
    parser.add_argument("--budgets", default="8B,15B,16B,31B,40B,54B,59B,65B")
    parser.add_argument("--sources", default="", help="beginnings of ids to measure, comma-separated")
    parser.add_argument("--folds", type=int, choices=range(2, 21), metavar="COUNT", default=5)
    parser.add_argument("--embedder", default="minilm-l6-int8")
    parser.add_argument("--steps", choices=("two", "one"), default="two", help="as coe router map has it")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--json", type=Path)
    try:
        return _measured(parser.parse_args(arguments))
    except (RouterError, SettingsError, OSError) as error:
        print(f"cross_validate: {error}", file=sys.stderr)
        return 1


def _measured(options: argparse.Namespace) -> int:
    budgets = [parameters("--budgets", each) for each in options.budgets.split(",")]
    found = cross_validated(
        read_examples(options.data),
        sizes("--experts", options.experts),
        [*budgets, None],
        count=options.folds,
        embedder=embedder_named(options.embedder),
        cache=options.cache,
        sources=[each for each in options.sources.split(",") if each],
        steps=options.steps,
    )
    for budget, each in zip([*budgets, np.inf], found, strict=True):
        print(f"\nat most {budget:g} B active\n{each}")
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(each) for each in found], indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
