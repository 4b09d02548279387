"""RouterArena's prompts, their altered versions and published answers, from a checkout of
RouteWorks/RouterArena.

``cached_results/MODEL.jsonl`` has a model's answers to the prompts, with grades and costs. The files of
``router_inference/predictions/`` that end in ``-robustness.json`` have the altered prompts, the same in each,
beside what some router made of them, which is not read.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from router.arrays import Floats
from router.errors import DatasetError


@dataclass(frozen=True, slots=True, eq=False)
class Arena:
    """Prompts that every model answered. ``altered``: those of which there is another wording."""

    prompts: Mapping[str, str]
    altered: Mapping[str, str]
    models: tuple[str, ...]
    scores: Floats
    """[prompts, models], from 0 to 1."""
    costs: Floats
    """[prompts, models], in dollars."""


def read_arena(checkout: Path) -> Arena:
    """Raises DatasetError that says which files are missing or wrong."""
    results, predictions = checkout / "cached_results", checkout / "router_inference" / "predictions"
    answers = {file.stem: _answers(file) for file in sorted(results.glob("*.jsonl"))}
    common = sorted(set.intersection(*map(set, answers.values()))) if answers else []
    if len(answers) < 2 or not common:
        raise DatasetError(
            f"{results} does not hold two models' answers to the same prompts: "
            f"is {checkout} a checkout of RouteWorks/RouterArena?"
        )
    prompts = {index: str(next(iter(answers.values()))[index]["question"]) for index in common}
    files = sorted(predictions.glob("*-robustness.json"))
    altered = {index: text for file in files for index, text in _altered(file) if index in prompts}
    if not altered:
        raise DatasetError(
            f"{predictions} has no *-robustness.json with altered prompts; git pull; old checkouts have none"
        )

    def numbers(field: str) -> Floats:
        graded = [[each[index]["evaluation_result"] for each in answers.values()] for index in common]
        return np.array([[float(grade[field]) for grade in row] for row in graded])

    try:
        return Arena(prompts, altered, tuple(answers), numbers("score"), numbers("inference_cost"))
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{results} has an answer without a grade and a cost: {error!r}") from error


def _answers(file: Path) -> dict[str, dict[str, Any]]:
    try:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        return {row["global_index"]: row for row in rows if row["question"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{file} cannot be read: {error!r}") from error


def _altered(file: Path) -> Iterator[tuple[str, str]]:
    try:
        for row in json.loads(file.read_text(encoding="utf-8")):
            yield row["global index"], row["prompt"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{file} cannot be read: {error!r}") from error
