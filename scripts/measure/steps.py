"""One step beside two, and doubt beside no doubt, in answer quality on prompts kept apart.

    python -m scripts.measure.steps --data graded.jsonl.gz --experts "small=7.62B,large=70.6B"

The label of each prompt, and whether it is doubted, are told by training without its fold; labels know no
grades, so that is done once. What is learnt of grades (predictions, clusters, scores, maps and prices) is
learnt for each fold without it, as ``coe router train`` does. Every way is compared with two steps, with the
doubts of a router that is served, on the same prompts.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.arrays import Floats
from router.classifiers.crossfit import FOLDS, Corpus, relearned
from router.classifiers.learner import Learner
from router.classifiers.lexicon import Lexicon
from router.data.dataset import Example, read_examples
from router.decision import GENERAL
from router.embedders.cache import EmbeddingCache
from router.embedders.registry import embedder_named, record_of
from router.errors import MappingError, RouterError
from router.mapping.budget_solver import Solver, Steps
from router.mapping.evaluation import Difference, Grades, MapEvaluation, difference, evaluate_map
from router.mapping.expert_mapping import ExpertMapping
from router.mapping.metrics import Estimate
from router.mapping.one_step import best_at, no_predictions
from router.mapping.score_table import ScoreTable
from router.progress import Progress
from router.training.cascade import NEVER, quick_stage
from router.training.corpus import corpus_of, labelled_of
from router.training.scoring import Scores, predicted, scores_of
from router.training.stage import fit_stage
from server.cli.output import console, write_json
from server.cli.progress import Bars
from server.cli.router.sizes import parameters, sizes
from server.cli.tables import table
from server.config.settings import SettingsError


class Way(NamedTuple):
    """A way to choose an expert."""

    steps: Steps
    doubts: bool

    @property
    def name(self) -> str:
        steps = "one step" if self.steps == "one" else "two steps"
        return steps if self.doubts else f"{steps}, no doubt"


WAYS = (Way("two", True), Way("one", True), Way("two", False), Way("one", False))


@dataclass(frozen=True, slots=True)
class Measured:
    """A way at one budget. ``over``: this one over the first of ``WAYS``, which has none."""

    worth: MapEvaluation
    over: Difference | None


class Material(NamedTuple):
    """All prompts, and those of the data that are graded for every expert. ``last``: the prompts as the last
    stage of a cascade reads them; None: there is no other stage."""

    examples: Sequence[Example]
    corpus: Corpus
    embedder: str
    last: Corpus | None
    labels: tuple[str, ...]
    measured: NDArray[np.bool_]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--experts", required=True, help="NAME=SIZE,...")
    parser.add_argument("--budgets", default="15B,31B,54B,65B")
    parser.add_argument("--embedder", default="minilm-static-384")
    parser.add_argument("--last", help="embedder of a cascade's last stage; none by default")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    try:
        experts = sizes("--experts", options.experts)
        budgets = [*(parameters("--budgets", each) for each in options.budgets.split(",")), None]
        with Bars() as bars:
            progress = bars.of("steps")
            material = read(options, experts, progress)
            routed = labels_of(material, progress)
            found = measure(material, routed, experts, budgets, progress)
    except (RouterError, SettingsError) as error:
        print(f"steps: {error}", file=sys.stderr)
        return 1
    _show(found, budgets)
    tree = {way.name: [asdict(each) for each in row] for way, row in found.items()}
    write_json(options.json, tree)
    return 0


def read(options: argparse.Namespace, experts: Mapping[str, float], progress: Progress) -> Material:
    """Raises DatasetError, EmbedderError."""
    examples, _ = labelled_of(read_examples(options.data))
    labels = tuple(sorted({example.category or GENERAL for example in examples}))
    lexicon = Lexicon.of(example.prompt for example in examples if example.kind == "data")

    def read_by(name: str) -> Corpus:
        embeddings = EmbeddingCache(embedder_named(name), options.cache)
        try:
            return corpus_of(examples, labels, tuple(experts), embeddings, lexicon, progress)
        finally:
            embeddings.close()

    corpus = read_by(options.embedder)
    complete: NDArray[np.bool_] = np.all(~np.isnan(corpus.grades), axis=1)
    if not complete.any():
        raise MappingError(f"no prompt is graded for all of {', '.join(experts)}")
    last = None if options.last is None else read_by(options.last)
    return Material(examples, corpus, options.embedder, last, labels, complete)


def labels_of(material: Material, progress: Progress, seed: int = 0) -> dict[bool, list[str]]:
    """[n] with doubts and without, the label of each prompt by training without its fold."""
    learner = Learner("linear", material.labels, None)
    stage = fit_stage(learner, material.corpus, seed, progress)
    logits, doubted = stage.logits, stage.doubted
    if material.last is not None:
        last = fit_stage(learner, material.last, seed, progress)
        lengths = np.array([len(example.prompt) for example in material.examples])
        record = record_of(embedder_named(material.embedder))
        quick = quick_stage(record, stage, last, material.corpus, lengths, material.labels, seed)
        limits = np.full(len(lengths), NEVER) if quick is None else quick.limits_of(lengths)
        logits, doubted = stage.or_else(last, limits)
    best = [material.labels[index] for index in logits.argmax(axis=1)]
    with_doubts = [GENERAL if doubt else label for doubt, label in zip(doubted, best, strict=True)]
    return {True: with_doubts, False: best}


def measure(
    material: Material,
    routed: Mapping[bool, Sequence[str]],
    experts: Mapping[str, float],
    budgets: Sequence[float | None],
    progress: Progress,
) -> dict[Way, list[Measured]]:
    """``routed``: as ``labels_of`` has it. Raises MappingError where one step is not possible."""
    corpus = material.corpus
    chosen = {way: np.full((len(corpus.folds), len(budgets)), "", dtype=object) for way in WAYS}
    some: NDArray[np.bool_] = np.any(~np.isnan(corpus.grades), axis=1)
    for fold in range(FOLDS):
        progress("leaving out", fold, FOLDS)
        inside = corpus.folds == fold
        part = relearned(corpus, ~inside)
        learnt, test = np.flatnonzero(some & ~inside), np.flatnonzero(material.measured & inside)
        made = predicted(part[some & ~inside], [""] * len(learnt), experts, lambda *_: None)
        said = made.expected.many(part.readings[material.measured & inside])
        for doubts, labels in routed.items():
            graded = replace(made.graded, labels=[labels[row] for row in learnt])
            scores = scores_of(made._replace(graded=graded), material.labels, finer=True)
            for way in WAYS:
                if way.doubts == doubts:
                    here = [labels[row] for row in test]
                    for column, budget in enumerate(budgets):
                        chosen[way][test, column] = _choose(way.steps, scores, here, said, experts, budget)
    complete = [material.examples[row] for row in np.flatnonzero(material.measured)]
    grades = Grades.of(complete, experts)
    first = chosen[WAYS[0]][material.measured]
    found: dict[Way, list[Measured]] = {}
    for way, each in chosen.items():
        found[way] = []
        for column in range(len(budgets)):
            here, before = list(each[material.measured, column]), list(first[:, column])
            over = None if way == WAYS[0] else difference(grades, here, before)
            found[way].append(Measured(evaluate_map(grades, 0, here, None, None), over))
    return found


def _choose(
    steps: Steps,
    scores: Scores,
    labels: Sequence[str],
    said: Floats,
    experts: Mapping[str, float],
    budget: float | None,
) -> list[str]:
    if scores.clusters is None:
        raise no_predictions()
    solver = Solver(
        scores.table, experts, finer=scores.clusters.labels, predictions=scores.predictions, steps=steps
    )
    mapping, rows = solver.map(budget), scores.clusters.rows(labels, said)
    if steps == "two":
        return [mapping[row] for row in rows]
    return [_best(mapping, scores.table, row, each, experts) for row, each in zip(rows, said, strict=True)]


def _best(
    mapping: ExpertMapping, scores: ScoreTable, row: str, said: Floats, experts: Mapping[str, float]
) -> str:
    expected = dict(zip(experts, map(float, said), strict=True))
    return best_at(mapping, scores, row, expected, None) or mapping[row]


def _show(found: Mapping[Way, Sequence[Measured]], budgets: Sequence[float | None]) -> None:
    columns = ("budget", "active B", "score", "over the blind mix", "over the best single", "over two steps")
    shown = table("way", *columns)
    for way, row in found.items():
        for budget, each in zip(budgets, row, strict=True):
            worth, over = each.worth, None if each.over is None else each.over.over_blind
            shown.add_row(
                way.name,
                "none" if budget is None else f"{budget:g} B",
                f"{worth.composition.active:.1f}",
                f"{worth.composition.score.value:.2f}",
                *map(_points, (worth.over_blind, worth.over_best_single, over)),
            )
    console().print(shown)


def _points(each: Estimate | None) -> str:
    return "" if each is None else f"{each.value:+.2f} [{each.low:+.2f}, {each.high:+.2f}]"


if __name__ == "__main__":
    sys.exit(main())
