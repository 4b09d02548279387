"""Whether doubts tell prompts of a kind never seen from others like those seen.

    python -m scripts.measure.doubts --data routing.jsonl.gz --cache vectors.sqlite --without bbh/

One kind at a time is left out: the prompts of a source, or of a label. A classifier is fitted to four folds
of the rest, as ``coe router train`` does. The fifth fold is what is known, what was left out is new.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from scipy.stats import rankdata

from router.arrays import Floats
from router.classifiers.crossfit import Corpus
from router.classifiers.learner import Learner
from router.classifiers.lexicon import Lexicon
from router.classifiers.linear import Readings, log_softmax
from router.classifiers.uncertainty import Signs, Uncertainty, distances_to, entropies
from router.data.dataset import Example, read_examples
from router.embedders.cache import EmbeddingCache
from router.embedders.embedder import Embedder
from router.embedders.minilm import MiniLmOnnx
from router.errors import DatasetError, RouterError
from router.progress import Progress
from router.training.corpus import DOUBTED, corpus_of, labelled_of, landmarks_of
from server.cli.progress import Bars
from server.cli.tables import table

FALSE_ALARMS = 0.05
"""Share of known prompts."""


@dataclass(frozen=True, slots=True)
class Kind:
    """The prompts that are left out: those with a label, or with ids that start so."""

    name: str
    label: bool

    def among(self, examples: Sequence[Example]) -> NDArray[np.bool_]:
        """Marks its prompts. Raises DatasetError for a kind that no prompt is of, or all are."""
        found = np.array(
            [e.category == self.name if self.label else e.id.startswith(self.name) for e in examples]
        )
        data = np.array([example.kind == "data" for example in examples])
        if not (found & data).any() or found[data].all():
            what = "the label" if self.label else "an id that starts with"
            raise DatasetError(f"no prompt, or every one, has {what} {self.name!r}; leave out another")
        return found


@dataclass(frozen=True, slots=True)
class Detected:
    """The prompts that one alarm detects."""

    auroc: float
    """Chance that a new prompt is more doubted than a known one."""
    detected: float
    """Share of new prompts that it doubts when it doubts ``FALSE_ALARMS`` of the known ones."""
    plain: float
    """Share of plain prompts that it then doubts; none of them was learnt from."""


@dataclass(frozen=True, slots=True)
class Row:
    kind: Kind
    known: int
    new: int
    alarms: Mapping[str, Detected]


@dataclass(frozen=True, slots=True)
class Report:
    rows: tuple[Row, ...]

    def json(self) -> dict[str, Any]:
        return asdict(self)


def measure(
    data: Sequence[Example],
    kinds: Sequence[Kind],
    progress: Progress,
    *,
    embedder: Embedder | None = None,
    cache: Path | None = None,
    seed: int = 0,
) -> Report:
    """Raises DatasetError and EmbedderError."""
    examples, _ = labelled_of(data)
    left_out = [kind.among(examples) for kind in kinds]
    labels = tuple(sorted({example.category or "" for example in examples}))
    embeddings = EmbeddingCache(embedder or MiniLmOnnx(), cache)
    try:
        lexicon = Lexicon.of([])
        corpus = corpus_of(examples, labels, [], embeddings, lexicon, progress)
    finally:
        embeddings.close()
    rows: list[Row] = []
    for kind, out in zip(kinds, left_out, strict=True):
        progress("leaving out", len(rows), len(kinds))
        rows.append(_row(kind, examples, corpus, out, labels, seed))
    progress("leaving out", len(rows), len(kinds))
    return Report(tuple(rows))


def _row(
    kind: Kind,
    examples: Sequence[Example],
    corpus: Corpus,
    out: NDArray[np.bool_],
    labels: tuple[str, ...],
    seed: int,
) -> Row:
    """The lexicon, too, has seen nothing but what is learnt from."""
    seen, known, new = (corpus.folds != 0) & ~out, (corpus.folds == 0) & ~out, out & ~corpus.plain
    lexicon = Lexicon.of(
        e.prompt
        for e, inside, plain in zip(examples, seen, corpus.plain, strict=True)
        if inside and not plain
    )

    def read(rows: NDArray[np.bool_]) -> Corpus:
        texts = [example.prompt for example, inside in zip(examples, rows, strict=True) if inside]
        part = corpus[rows]
        return Corpus(
            Readings(part.vectors, lexicon.matrix(texts)),
            part.targets,
            part.importance,
            part.plain,
            part.folds,
            part.grades,
        )

    learnt = read(seen)
    classifier, landmarks = Learner("linear", labels, None).fit(learnt), landmarks_of(learnt, seed)

    def signs(part: Corpus) -> tuple[Signs, Floats]:
        """Returns the signs, and how unlikely the likeliest label is."""
        chances = np.exp(log_softmax(classifier.logits_of(part.readings)))
        distances = distances_to(landmarks, part.vectors)
        return (
            Signs(entropies(chances), distances, lexicon.oddities(part.readings.grams)),
            1.0 - chances.max(axis=1),
        )

    before, after = read(known), read(new)
    (seen_signs, seen_unsure), (new_signs, new_unsure) = signs(before), signs(after)
    doubts = Uncertainty.of(landmarks, seen_signs, importance=before.importance, doubted=DOUBTED)
    alarms = compared(doubts, (seen_signs, seen_unsure), (new_signs, new_unsure), before.plain)
    return Row(kind, int((~before.plain).sum()), len(after.targets), alarms)


def compared(
    doubts: Uncertainty, known: tuple[Signs, Floats], new: tuple[Signs, Floats], plain: NDArray[np.bool_]
) -> dict[str, Detected]:
    """Each sign alone, two that were combined before, and all: of prompts the signs and how unlikely the
    likeliest label is. ``plain``: which of the known prompts are."""
    ranks = [_shares_below(known[1][~plain]), _shares_below(known[0].distances[~plain])]

    def either(signs: Signs, unsure: Floats) -> Floats:
        return np.maximum(ranks[0](unsure), ranks[1](signs.distances))

    scores: dict[str, Callable[[Signs, Floats], Floats]] = {
        "confidence": lambda signs, unsure: unsure,
        "entropy": lambda signs, unsure: signs.entropies,
        "distance": lambda signs, unsure: signs.distances,
        "odd writing": lambda signs, unsure: signs.oddities,
        "confidence or distance": either,
        "all three": lambda signs, unsure: doubts.surprises(signs),
    }
    return {name: _detected(score(*known), score(*new), plain) for name, score in scores.items()}


def _detected(known: Floats, new: Floats, plain: NDArray[np.bool_]) -> Detected:
    data = known[~plain]
    limit = np.quantile(data, 1 - FALSE_ALARMS)
    ranks = rankdata(np.concatenate([data, new]))[len(data) :]
    auroc = (ranks.sum() - len(new) * (len(new) + 1) / 2) / (len(data) * len(new))
    alarmed = float((known[plain] > limit).mean()) if plain.any() else 0.0
    return Detected(float(auroc), float((new > limit).mean()), alarmed)


def _shares_below(reference: Floats) -> Callable[[Floats], Floats]:
    ordered = np.sort(reference)
    return lambda values: np.searchsorted(ordered, values, side="left") / len(ordered)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True, help="JSON lines with id, prompt and category")
    parser.add_argument("--without", nargs="+", default=[], metavar="PREFIX", help="ids to leave out")
    parser.add_argument("--without-label", nargs="+", default=[], metavar="LABEL", help="labels to leave out")
    parser.add_argument("--cache", type=Path, help="file that keeps embeddings between runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    kinds = [Kind(name, label=False) for name in options.without]
    kinds += [Kind(name, label=True) for name in options.without_label]
    if not kinds:
        parser.error("nothing is left out; name ids with --without, or labels with --without-label")
    try:
        with Bars() as bars:
            examples = read_examples(options.data)
            report = measure(examples, kinds, bars.of("doubts"), cache=options.cache, seed=options.seed)
    except RouterError as error:
        print(f"doubts: {error}", file=sys.stderr)
        return 1
    _show(report)
    if options.json is not None:
        options.json.write_text(json.dumps(report.json(), indent=2) + "\n")
    return 0


def _show(report: Report) -> None:
    title = f"AUROC / detected at {100 * FALSE_ALARMS:.0f} % false alarms / plain prompts then doubted"
    numbers = ("known", "new", *report.rows[0].alarms)
    shown = table("left out", *numbers, numbers=numbers, title=title)
    for row in report.rows:
        figures = (
            f"{each.auroc:.2f} / {100 * each.detected:.0f} / {100 * each.plain:.0f}"
            for each in row.alarms.values()
        )
        shown.add_row(row.kind.name, str(row.known), str(row.new), *figures)
    Console(width=160).print(shown)


if __name__ == "__main__":
    sys.exit(main())
