"""How much better a map could be: routing by what a prompt says, and by that and other models' answers to it.

    python -m scripts.measure.plateau --data graded.jsonl.gz --experts "small=7.62B,large=70.6B"

Each expert's score on a prompt is expected from what is known without its grades there: its mean in the
prompt's label; the prompt, by the predictor of the finer categories; the prompt and the grades of all models
that are not among the experts, which repeat the grading. Each prompt goes to the expert with the best
expected score less a price for its size, so that a budget is kept on average: one step, without a map. What
the grades of others add, no reader of the text can be expected to find.

Beside the gains it says how much of the grades' variance each explains: of how easy a prompt is (the mean of
its grades), and of what an expert does better on it than that.
"""

import argparse
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from router.arrays import Floats
from router.classifiers.crossfit import FOLDS, Corpus, apart
from router.classifiers.lexicon import Lexicon
from router.classifiers.linear import Readings
from router.data.dataset import Example, folds, read_examples
from router.embedders.cache import EmbeddingCache
from router.embedders.registry import embedder_named
from router.errors import DatasetError, RouterError
from router.mapping.expected_scores import fit_expected
from router.mapping.metrics import Estimate
from server.cli.output import console, write_json
from server.cli.progress import Bars
from server.cli.router.sizes import sizes
from server.cli.tables import table
from server.config.settings import SettingsError

RESAMPLES = 1000
STRENGTH = 50.0
"""Weighs the ridge regression on others' grades."""


@dataclass(frozen=True, slots=True)
class Point:
    """Points of score over the blind mix of single experts at the same cost, and over the best single one."""

    active: float
    score: Estimate
    over_blind: Estimate
    over_best: Estimate


@dataclass(frozen=True, slots=True)
class Explained:
    """Shares of variance, on prompts kept apart: of the mean of a prompt's grades, and of what is left of
    each grade beside the mean and the expert's own level."""

    ease: float
    advantage: float


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--experts", required=True)
    parser.add_argument("--embedder", default="minilm-static-384")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--budgets", type=float, nargs="+", default=[15.0, 31.0, 54.0, 65.0])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    try:
        found, told = measured(options)
    except (RouterError, SettingsError) as error:
        print(f"plateau: {error}", file=sys.stderr)
        return 1
    shown = table("expected from", *(f"{budget:g} B" for budget in options.budgets))
    for name, points in found.items():
        shown.add_row(
            name,
            *(
                f"{p.over_blind.value:+.2f} [{p.over_blind.low:+.2f}, {p.over_blind.high:+.2f}]"
                for p in points
            ),
        )
        budget, last = options.budgets[-1], points[-1].over_best
        shown.add_row(
            f"  over the best single one, at {budget:g} B",
            *("" for _ in points[1:]),
            f"{last.value:+.2f} [{last.low:+.2f}, {last.high:+.2f}]",
        )
    console().print(shown)
    for name, each in told.items():
        print(f"{name} explains {100 * each.ease:.0f} % of ease, {100 * each.advantage:.1f} % of advantage")
    gains = {name: [asdict(point) for point in points] for name, points in found.items()}
    explained = {name: asdict(each) for name, each in told.items()}
    write_json(options.json, {**gains, "explained": explained})
    return 0


def measured(options: argparse.Namespace) -> tuple[dict[str, list[Point]], dict[str, Explained]]:
    """Raises DatasetError, EmbedderError, SettingsError."""
    experts = sizes("--experts", options.experts)
    examples = [each for each in read_examples(options.data) if experts.keys() <= each.scores.keys()]
    if not examples:
        raise DatasetError("no prompt is graded for all of --experts")
    grades = np.array([[each.scores[name] for name in experts] for each in examples])
    parameters, fold_of = np.array(list(experts.values())), folds(examples, FOLDS)
    expected = _expected(options, examples, grades, fold_of)
    found = {}
    for name, scores in expected.items():
        found[name] = [
            point(grades, parameters, chosen(scores, parameters, budget)) for budget in options.budgets
        ]
    return found, {name: told_of(scores, grades) for name, scores in expected.items()}


def told_of(expected: Floats, grades: Floats) -> Explained:
    """``expected`` and ``grades``: [n, experts]."""
    parts = []
    for each in (expected, grades):
        ease = each.mean(axis=1, keepdims=True)
        advantage = each - ease
        parts.append((ease, advantage - advantage.mean(axis=0)))
    (said_ease, said_advantage), (ease, advantage) = parts
    return Explained(_share(said_ease, ease), _share(said_advantage, advantage))


def _share(said: Floats, true: Floats) -> float:
    left = ((true - said) ** 2).mean()
    return float(1 - left / max(true.var(), 1e-12))


def _expected(
    options: argparse.Namespace, examples: list[Example], grades: Floats, fold_of: NDArray[np.int64]
) -> dict[str, Floats]:
    """[n, experts] each, in the order of what is known."""
    prompts = [each.prompt for each in examples]
    cached = EmbeddingCache(embedder_named(options.embedder), options.cache)
    with Bars() as bars:
        progress, blocks = bars.of("plateau"), []
        try:
            for start in range(0, len(prompts), 200):
                blocks.append(cached.embed(prompts[start : start + 200]))
                progress("embedding", start, len(prompts))
        finally:
            cached.close()
        lexicon = Lexicon.of(prompts)
        readings = Readings(np.concatenate(blocks), lexicon.matrix(prompts), lexicon)
        count, done = len(prompts), iter(range(FOLDS))
        nothing = np.zeros(count, dtype=np.int64)
        corpus = Corpus(readings, nothing, np.ones(count), nothing > 0, fold_of, grades)

        def predicted(others: Corpus, those: Readings) -> Floats:
            progress("predicting", next(done), FOLDS)
            return fit_expected(others.readings, others.grades, others.grades.mean(axis=0)).many(those)

        text = apart(corpus, predicted)
    labels = np.array([each.category or "" for each in examples])
    return {
        "the label": _label_means(labels, grades, fold_of),
        "the prompt": text,
        "the prompt and other models' answers": _with_others(
            text, _others(examples, options), grades, fold_of
        ),
        "its own answers": grades,
    }


def _label_means(labels: "NDArray[np.str_]", grades: Floats, fold_of: NDArray[np.int64]) -> Floats:
    found = np.empty_like(grades)
    for fold in range(FOLDS):
        rest = fold_of != fold
        for label in np.unique(labels):
            inside = rest & (labels == label)
            found[(fold_of == fold) & (labels == label)] = grades[inside if inside.any() else rest].mean(
                axis=0
            )
    return found


def _others(examples: list[Example], options: argparse.Namespace) -> Floats:
    """[n, 2 * models], grades of the models that are not experts over their means, zero where there is none,
    and whether there is one."""
    experts = sizes("--experts", options.experts)
    names = sorted({name for each in examples for name in each.scores} - experts.keys())
    given = np.array([[each.scores.get(name, np.nan) for name in names] for each in examples], dtype=float)
    known = ~np.isnan(given)
    return np.hstack([np.where(known, given - np.nanmean(given, axis=0), 0.0), known.astype(float)])


def _with_others(text: Floats, others: Floats, grades: Floats, fold_of: NDArray[np.int64]) -> Floats:
    """Ridge regression of what the text leaves over on others' grades, and on their products with it."""
    mean = text.mean(axis=1, keepdims=True)
    features = np.hstack(
        [others, text - text.mean(axis=0), others * (mean - mean.mean()), np.ones((len(text), 1))]
    )
    found = np.empty_like(grades)
    for fold in range(FOLDS):
        rest = fold_of != fold
        inner = features[rest].T @ features[rest] + STRENGTH * np.eye(features.shape[1])
        weights = np.linalg.solve(inner, features[rest].T @ (grades[rest] - text[rest]))
        found[~rest] = text[~rest] + features[~rest] @ weights
    return found


def chosen(scores: Floats, parameters: Floats, budget: float) -> NDArray[np.int64]:
    """[n] the expert of each prompt: the best expected score less a price for each billion, the lowest price
    that keeps the budget on average. Nobody's grades are looked at."""
    low, high = 0.0, 1.0
    for _ in range(40):
        price = (low + high) / 2
        cost = parameters[(scores - price * parameters).argmax(axis=1)].mean()
        low, high = (price, high) if cost > budget else (low, price)
    return np.asarray((scores - high * parameters).argmax(axis=1))


def point(grades: Floats, parameters: Floats, experts: NDArray[np.int64], seed: int = 0) -> Point:
    rows = np.arange(len(grades))
    got, active = grades[rows, experts], float(parameters[experts].mean())
    draw = np.random.default_rng(seed)
    scores, over, best = [], [], []
    single = int(grades.mean(axis=0).argmax())
    for number in range(RESAMPLES + 1):
        drawn = rows if number == 0 else draw.integers(len(rows), size=len(rows))
        cost = float(parameters[experts[drawn]].mean())
        scores.append(100 * got[drawn].mean())
        over.append(scores[-1] - 100 * blind(grades[drawn].mean(axis=0), parameters, cost))
        best.append(scores[-1] - 100 * grades[drawn, single].mean())
    return Point(
        active, Estimate.of(np.array(scores)), Estimate.of(np.array(over)), Estimate.of(np.array(best))
    )


def blind(means: Floats, parameters: Floats, cost: float) -> float:
    """The best mixture by lot of two single experts that costs no more."""
    best = max((mean for mean, size in zip(means, parameters, strict=True) if size <= cost), default=-np.inf)
    for a in range(len(means)):
        for b in range(len(means)):
            if parameters[a] <= cost < parameters[b]:
                part = (cost - parameters[a]) / (parameters[b] - parameters[a])
                best = max(best, (1 - part) * means[a] + part * means[b])
    return float(best)


if __name__ == "__main__":
    sys.exit(main())
