"""Measures what a conversation loses against deciding each turn by itself, and how often its expert changes.

    coe router train --data graded.jsonl.gz --experts "small=7.62B,large=70.6B" --keep-apart --out artifact/
    python -m scripts.measure.conversations --artifact artifact/ --data graded.jsonl.gz --budgets 15B,31B

The prompts that ``--keep-apart`` left out are paired: each is the second turn of a conversation whose first
turn is another prompt of its category, drawn by lot. Turns of real conversations differ less.
"""

import argparse
import random
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from router.composition import Composition
from router.conversations.recall import Recall
from router.data.dataset import Example, read_examples
from router.errors import DatasetError, MappingError, RouterError
from router.mapping.metrics import Estimate, bootstrap
from router.router import Router
from server.cli.output import console, write_json
from server.cli.router.graded import add_artifact, part_of
from server.cli.router.sizes import parameters
from server.cli.tables import table
from server.config.settings import SettingsError

FIRST = "the first turn's expert"


@dataclass(frozen=True, slots=True)
class Kept:
    """``lost``: points against deciding each turn by itself. ``alike``: share of the conversations whose
    second turn has the expert that it has by itself. ``changes``: share whose second turn has another expert
    than the first."""

    budget: float
    way: str
    lost: Estimate
    alike: float
    changes: float


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_artifact(parser)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--budgets", default="15B,31B,54B")
    parser.add_argument("--stay-margins", type=float, nargs="+", default=[0.0, 1.0, 5.0], metavar="POINTS")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    try:
        budgets = [parameters("--budgets", each) for each in options.budgets.split(",")]
        router = Router.load(options.artifact)
        pairs = paired(router, part_of(read_examples(options.data), apart=True))
        found = measured(router, pairs, budgets, options.stay_margins)
    except (RouterError, SettingsError) as error:
        print(f"conversations: {error}", file=sys.stderr)
        return 1
    shown = table(
        "budget",
        "keeps",
        "points lost",
        "as by itself",
        "expert changes",
        title=f"{len(pairs)} conversations",
    )
    for each in found:
        lost = f"{each.lost.value:.2f} [{each.lost.low:.2f}, {each.lost.high:.2f}]"
        shown.add_row(
            f"{each.budget:g} B", each.way, lost, f"{100 * each.alike:.0f} %", f"{100 * each.changes:.0f} %"
        )
    console().print(shown)
    write_json(options.json, {"kept": [asdict(each) for each in found]})
    return 0


def paired(router: Router, examples: Sequence[Example], seed: int = 0) -> list[tuple[str, Example]]:
    """A first turn for each prompt that is graded for all experts. Raises DatasetError, MappingError."""
    scores = router.artifact.scores
    if scores is None:
        raise MappingError("the artifact has no scores; train it with --experts")
    of_category = defaultdict(list)
    for example in examples:
        if example.category is not None and {*scores.experts} <= example.scores.keys():
            of_category[example.category].append(example)
    draw = random.Random(seed)
    pairs = []
    for alike in of_category.values():
        for second in alike if len(alike) > 1 else ():
            first = draw.choice([each for each in alike if each is not second])
            pairs.append((first.prompt, second))
    if not pairs:
        raise DatasetError("no category has two prompts kept apart that are graded for all experts")
    return pairs


def measured(
    router: Router,
    pairs: Sequence[tuple[str, Example]],
    budgets: Sequence[float],
    stay_margins: Sequence[float],
) -> list[Kept]:
    """Raises MappingError."""
    found, recall = [], Recall(router, size=4 * len(pairs))
    for budget in budgets:
        under = router.under(budget)
        alone = Composition(under, recall=recall)
        firsts = [_expert(alone, first) for first, _ in pairs]
        seconds = [_expert(alone, second.prompt) for _, second in pairs]
        ways = {FIRST: firsts}
        for margin in stay_margins:
            composition = Composition(under, recall=recall, stay_margin=margin)
            chosen = [_expert(composition, first, second.prompt) for first, second in pairs]
            ways[f"its category, stay_margin {margin:g}"] = chosen
        for way, chosen in ways.items():
            lost = np.array(
                [
                    100 * (second.scores[by_itself] - second.scores[expert])
                    for (_, second), by_itself, expert in zip(pairs, seconds, chosen, strict=True)
                ]
            )
            changes = np.mean([first != expert for first, expert in zip(firsts, chosen, strict=True)])
            alike = np.mean([one == other for one, other in zip(seconds, chosen, strict=True)])
            found.append(Kept(budget, way, _mean(lost), float(alike), float(changes)))
    return found


def _mean(lost: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> Estimate:
    return bootstrap(lambda rows: float(lost[rows].mean()), len(lost), seed=0)


def _expert(composition: Composition, *turns: str) -> str:
    messages: list[Mapping[str, object]] = [{"role": "user", "content": turn} for turn in turns]
    return composition.choose(messages).decision.expert


if __name__ == "__main__":
    sys.exit(main())
