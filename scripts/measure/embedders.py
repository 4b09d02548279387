"""How well each embedder and classifier tells the labels of prompts kept apart.

    python -m scripts.measure.embedders --data routing.jsonl.gz --cache vectors.sqlite --part mmlu-pro/

Fitted as ``coe router train`` does, five times without a fold and once with all; near twins are in one fold.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from scipy.sparse import csr_array

from router.classifiers.classifier import Classifier
from router.classifiers.crossfit import Corpus
from router.classifiers.learner import Kind, Learner, cross_fitted
from router.classifiers.lexicon import Lexicon
from router.classifiers.linear import Readings, log_softmax
from router.data.dataset import Example, read_examples
from router.data.plain_prompts import plain_prompts
from router.embedders.cache import EmbeddingCache
from router.embedders.embedder import Embedder
from router.embedders.registry import embedders
from router.errors import DatasetError, RouterError
from router.mapping.metrics import Estimate, bootstrap, calibration_error, macro_f1
from router.progress import Progress
from router.training.corpus import corpus_of, labelled_of
from server.cli.progress import Bars
from server.cli.tables import table

SEED_SHARE = 0.05
"""Share of the labels, which are spread to the prompts that then have none."""
DRAWS = 3
"""Draws of those labels."""


@dataclass(frozen=True, slots=True)
class Way:
    """A classifier, and whether it reads grams beside vectors."""

    kind: Kind
    grams: bool

    def __str__(self) -> str:
        return f"{self.kind}, with grams" if self.grams else self.kind


WAYS = (Way("linear", True), Way("linear", False), Way("neighbours", False))


@dataclass(frozen=True, slots=True)
class Trial:
    """The prompts that are learnt from, and those that are measured on."""

    data: Sequence[Example]
    prefix: str = ""
    """Beginning of the ids that are measured once more by themselves; none where empty."""
    plain: Sequence[Example] = ()
    """Prompts as people write them, none of them learnt from. Labels the data does not have are left out."""
    cache: Path | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    embedder: str
    dimension: int
    way: Way
    accuracy: Estimate
    macro_f1: Estimate
    calibration_error: float
    part: Estimate | None
    """Accuracy on the ids with the trial's prefix."""
    plain: Estimate | None
    """Accuracy on the trial's plain prompts."""


@dataclass(frozen=True, slots=True)
class FewLabels:
    """Accuracy on prompts kept apart from few labels, over the draws; of the first embedder."""

    kind: Kind
    labels: int
    alone: tuple[float, ...]
    spread: tuple[float, ...]
    """With the labels spread to the other prompts first."""


@dataclass(frozen=True, slots=True)
class Report:
    prompts: int
    prefix: str
    rows: tuple[Row, ...]
    few: tuple[FewLabels, ...]

    def json(self) -> dict[str, Any]:
        return asdict(self)


def measure(trial: Trial, progress: Progress, opening: Sequence[Embedder] | None = None) -> Report:
    """``opening``: the embedders; those that ship by default. Raises DatasetError and EmbedderError."""
    examples, _ = labelled_of(trial.data)
    part = np.array([bool(trial.prefix) and example.id.startswith(trial.prefix) for example in examples])
    if trial.prefix and not part.any():
        raise DatasetError(f"no labelled prompt has an id that starts with {trial.prefix!r}")
    labels = tuple(sorted({example.category or "" for example in examples}))
    plain = [example for example in trial.plain if example.category in labels]
    rows: list[Row] = []
    few: tuple[FewLabels, ...] = ()
    for embedder in opening or [make() for make in embedders().values()]:
        corpus, apart = _read(trial, examples, labels, plain, embedder, progress)
        rows += [_row(trial, embedder, way, labels, corpus, part, plain, apart, progress) for way in WAYS]
        few = few or tuple(
            _few(kind, corpus, labels, trial.seed, progress) for kind in ("linear", "neighbours")
        )
    return Report(int((~corpus.plain).sum()), trial.prefix, tuple(rows), few)


def _read(
    trial: Trial,
    examples: Sequence[Example],
    labels: Sequence[str],
    plain: Sequence[Example],
    embedder: Embedder,
    progress: Progress,
) -> tuple[Corpus, Readings]:
    """Reads the prompts that are learnt from, and the plain ones kept apart."""
    embeddings = EmbeddingCache(embedder, trial.cache)
    try:
        lexicon = Lexicon.of(example.prompt for example in examples if example.kind == "data")
        corpus = corpus_of(examples, labels, [], embeddings, lexicon, progress)
        texts = [example.prompt for example in plain]
        return corpus, Readings(embeddings.embed(texts), lexicon.matrix(texts))
    finally:
        embeddings.close()


def _row(
    trial: Trial,
    embedder: Embedder,
    way: Way,
    labels: Sequence[str],
    corpus: Corpus,
    part: NDArray[np.bool_],
    plain: Sequence[Example],
    apart: Readings,
    progress: Progress,
) -> Row:
    if not way.grams:
        corpus, apart = replace(corpus, readings=_vectors_alone(corpus.readings)), _vectors_alone(apart)
    learner = Learner(way.kind, tuple(labels), None)
    classifier, logits = cross_fitted(learner, corpus, progress)
    data = ~corpus.plain
    truth, predicted = corpus.targets[data], logits[data].argmax(axis=1)
    right = predicted == truth
    return Row(
        embedder.name,
        embedder.dimension,
        way,
        accuracy=_share(right, trial.seed),
        macro_f1=bootstrap(lambda rows: macro_f1(truth[rows], predicted[rows]), len(truth), trial.seed),
        calibration_error=calibration_error(np.exp(log_softmax(logits[data])).max(axis=1), right),
        part=_share(right[part[data]], trial.seed) if trial.prefix else None,
        plain=_share(_right(classifier, apart, plain), trial.seed) if plain else None,
    )


def _few(kind: Kind, corpus: Corpus, labels: Sequence[str], seed: int, progress: Progress) -> FewLabels:
    random = np.random.default_rng(seed)
    test = (corpus.folds == 0) & ~corpus.plain
    alone: list[float] = []
    spread: list[float] = []
    others = np.flatnonzero((corpus.folds != 0) & ~corpus.plain)
    count = round(SEED_SHARE * len(others))
    for draw in range(DRAWS):
        progress(f"{kind}, few labels", draw, DRAWS)
        known = corpus.plain & (corpus.folds != 0)
        known[random.choice(others, count, replace=False)] = True
        rest = corpus.readings[~known & (corpus.folds != 0)]
        for unlabelled, found in ((None, alone), (rest, spread)):
            classifier = Learner(kind, tuple(labels), unlabelled).fit(corpus[known])
            predicted = classifier.logits_of(corpus.readings[test]).argmax(axis=1)
            found.append(float((predicted == corpus.targets[test]).mean()))
    return FewLabels(kind, count, tuple(alone), tuple(spread))


def _vectors_alone(readings: Readings) -> Readings:
    return Readings(readings.vectors, csr_array(readings.grams.shape, dtype=np.float32))


def _right(classifier: Classifier, readings: Readings, examples: Sequence[Example]) -> NDArray[np.bool_]:
    predicted = classifier.logits_of(readings).argmax(axis=1)
    return np.array(
        [classifier.labels[index] == e.category for index, e in zip(predicted, examples, strict=True)]
    )


def _share(right: NDArray[np.bool_], seed: int) -> Estimate:
    return bootstrap(lambda rows: float(right[rows].mean()), len(right), seed)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True, help="JSON lines with id, prompt and category")
    parser.add_argument("--part", default="", metavar="PREFIX", help="ids that are also measured alone")
    parser.add_argument("--plain", type=Path, help="prompts under [label] headings, measured too")
    parser.add_argument("--cache", type=Path, help="file that keeps embeddings between runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    try:
        plain = [] if options.plain is None else plain_prompts(options.plain)
        trial = Trial(read_examples(options.data), options.part, plain, options.cache, options.seed)
        with Bars() as bars:
            report = measure(trial, bars.of("embedders"))
    except RouterError as error:
        print(f"embedders: {error}", file=sys.stderr)
        return 1
    _show(report)
    if options.json is not None:
        options.json.write_text(json.dumps(report.json(), indent=2) + "\n")
    return 0


def _show(report: Report) -> None:
    part = report.prefix or "a part"
    figures = ("right", "macro F1", "ECE", f"right of {part}", "right of plain")
    title = f"% of {report.prompts:,} prompts kept apart, with 95 % intervals"
    shown = table("embedder", "classifier", *figures, numbers=figures, title=title)
    for row in report.rows:
        shown.add_row(
            row.embedder,
            str(row.way),
            _percent(row.accuracy),
            _percent(row.macro_f1),
            f"{100 * row.calibration_error:.1f}",
            _percent(row.part),
            _percent(row.plain),
        )
    few = table("classifier", "labels", "alone", "spread", title="% right from few labels, each draw")
    for each in report.few:
        few.add_row(each.kind, str(each.labels), _draws(each.alone), _draws(each.spread))
    console = Console(width=160)
    console.print(shown)
    console.print(few)


def _percent(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    return f"{100 * estimate.value:.1f} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def _draws(shares: Sequence[float]) -> str:
    return ", ".join(f"{100 * share:.1f}" for share in shares)


if __name__ == "__main__":
    sys.exit(main())
