"""Says what RouterArena's published answers leave to a router of their models.

    git clone https://github.com/RouteWorks/RouterArena
    python -m scripts.measure.router_arena RouterArena

Each file of ``cached_results/`` has one model's answers to the same prompts, with grades and costs.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from router.arrays import Floats


@dataclass(frozen=True, slots=True, eq=False)
class Graded:
    """The answers of models to the same prompts."""

    models: tuple[str, ...]
    scores: Floats
    """[prompts, models], from 0 to 1."""
    costs: Floats
    """[prompts, models], in dollars."""

    def lines(self) -> list[str]:
        best = int(self.scores.mean(axis=0).argmax())
        rest = np.delete(self.scores, best, axis=1)
        only = (rest.max(axis=1) == 1) & (self.scores[:, best] == 0)
        points, dollars = 100 * self.scores.mean(axis=0), 1000 * self.costs.mean(axis=0)
        said = [
            f"{name}: {points[at]:.1f}, ${dollars[at]:.3f} a thousand" for at, name in enumerate(self.models)
        ]
        return [
            f"{len(self.scores)} prompts",
            *said,
            f"the per-prompt oracle: {100 * self.scores.max(axis=1).mean():.1f}",
            f"only another than {self.models[best]} is right: {only.sum()} prompts",
        ]


def read(folder: Path) -> Graded:
    """Raises OSError, and ValueError for files that are not RouterArena's or have no prompt in common."""
    files = sorted((folder / "cached_results").glob("*.jsonl"))
    answers = []
    for file in files:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        answers.append({row["global_index"]: row["evaluation_result"] for row in rows})
    common = sorted(set.intersection(*map(set, answers))) if answers else []
    if not common:
        raise ValueError(f"{folder / 'cached_results'} has no prompt that is answered in each file")

    def numbers(field: str) -> Floats:
        return np.array([[float(each[prompt][field]) for each in answers] for prompt in common])

    return Graded(tuple(file.stem for file in files), numbers("score"), numbers("inference_cost"))


def main(arguments: Sequence[str]) -> int:
    try:
        print("\n".join(read(Path(arguments[0] if arguments else "RouterArena")).lines()))
    except (OSError, ValueError, KeyError) as error:
        print(f"router_arena: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
