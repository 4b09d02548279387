"""RouteLLM's grades of two models on MMLU and GSM8K, read from a checkout of lm-sys/RouteLLM.

Prompts that its authors found to be contaminated are left out, as they do.
"""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

from router.data.dataset import Example
from router.errors import DatasetError

WEAK, STRONG = "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"
SETS = ("mmlu", "gsm8k")


def graded(checkout: Path, name: str) -> list[Example]:
    """The prompts of one of ``SETS``; the category of one of MMLU is its subject. Raises DatasetError where
    the checkout does not hold them."""
    folder = checkout / "routellm" / "evals" / name
    left_out = set(_contaminated(folder / "contaminated_prompts.jsonl"))
    files = (
        [folder / "gsm8k_responses.csv"] if name == "gsm8k" else sorted((folder / "responses").glob("*.csv"))
    )
    if not files:
        raise DatasetError(f"{folder} has no responses: is {checkout} a checkout of lm-sys/RouteLLM?")
    return [example for file in files for example in _examples(file, name) if example.prompt not in left_out]


def _examples(file: Path, name: str) -> Iterator[Example]:
    subject = "math" if name == "gsm8k" else file.stem.removeprefix("mmlu_")
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            for number, row in enumerate(csv.DictReader(stream), 1):
                scores = {model: float(row[model] == "True") for model in (WEAK, STRONG)}
                yield Example(f"{name}/{subject}/{number}", row["prompt"], subject, scores)
    except (OSError, KeyError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{file} cannot be read: {error!r}") from error


def _contaminated(file: Path) -> Iterator[str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
        yield from (json.loads(line)["eval_prompt"] for line in lines if line.strip())
    except (OSError, ValueError, KeyError) as error:
        raise DatasetError(f"{file} cannot be read: {error!r}") from error
