"""Labelled prompts from JSON lines, and their split into parts that share no question.

One object a line, gzip or not:
``{"id": "a/1", "prompt": "...", "category": "math", "scores": {"<expert>": 0..1}}``.
``category`` and ``scores`` may be missing, as may any expert in ``scores``: missing means not graded. Other
fields are ignored.
"""

import gzip
import hashlib
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from router.errors import DatasetError

Part = Literal["fit", "calibration", "held_out"]
Kind = Literal["data", "plain"]
"""``data`` comes from a file, ``plain`` ships with us."""


@dataclass(frozen=True, slots=True)
class Example:
    id: str
    prompt: str
    category: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    """Expert to its grade on this prompt, 0 to 1."""
    kind: Kind = "data"


@dataclass(frozen=True, slots=True)
class Split:
    """``fit`` trains, ``calibration`` sets temperature and thresholds, ``held_out`` only measures."""

    fit: tuple[Example, ...]
    calibration: tuple[Example, ...]
    held_out: tuple[Example, ...]


class _Line(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    id: Annotated[str, Field(min_length=1)]
    prompt: Annotated[str, Field(min_length=1)]
    category: Annotated[str, Field(min_length=1)] | None = None
    scores: dict[str, Annotated[float, Field(ge=0, le=1)]] = {}


def read_examples(file: Path) -> list[Example]:
    """Every line of a .jsonl or .jsonl.gz file. Raises DatasetError with the number of the first wrong
    line."""
    examples: list[Example] = []
    first_seen: dict[str, int] = {}
    for number, line in lines(file):
        example = _parse(line, file, number)
        if example.id in first_seen:
            used = f"id {example.id!r} was already used in line {first_seen[example.id]}"
            raise DatasetError(used, file=file, line=number)
        first_seen[example.id] = number
        examples.append(example)
    if not examples:
        raise DatasetError(f"{file} has no lines")
    return examples


def lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """Yields the lines that are not blank, with their numbers from 1. Raises DatasetError."""
    try:
        with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as stream:
            yield from ((number, line) for number, line in enumerate(stream, 1) if line.strip())
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{file} cannot be read: {error}") from error


def _parse(line: bytes, file: Path, number: int) -> Example:
    try:
        parsed = _Line.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        wrong = f"{where}: {first['msg']}" if where else first["msg"]
        raise DatasetError(wrong, file=file, line=number) from error
    return Example(parsed.id, parsed.prompt, parsed.category, parsed.scores)


_OPTIONS = re.compile(r"\n\s*(?:Options:|Choices:|\(?A[.):])", re.IGNORECASE)


def question_of(prompt: str) -> str:
    """The prompt without its list of options."""
    return _OPTIONS.split(prompt, maxsplit=1)[0].strip()


def split(examples: Sequence[Example]) -> Split:
    """80, 10 and 10 percent by hash of id, the same for the same ids whatever the order.

    Near twins (one word or any number changed) share the first or the second half of their question's
    words; they go to one part together, decided by the smallest id among them.
    """
    parts: dict[Part, list[Example]] = {"fit": [], "calibration": [], "held_out": []}
    for example, representative in zip(examples, _twin_representatives(examples), strict=True):
        parts[_part_of(representative)].append(example)
    return Split(tuple(parts["fit"]), tuple(parts["calibration"]), tuple(parts["held_out"]))


def folds(examples: Sequence[Example], count: int, salt: str = "") -> NDArray[np.int64]:
    """[examples], the fold of each, by hash of id; near twins are in one fold. Another ``salt`` gives other
    folds: holding a fold out from something that makes folds of its own needs one."""
    representatives = _twin_representatives(examples)
    return np.array(
        [hashlib.sha256(f"{salt}{each}".encode()).digest()[1] % count for each in representatives]
    )


def _part_of(example_id: str) -> Part:
    tenth = hashlib.sha256(example_id.encode()).digest()[0] % 10
    if tenth == 0:
        return "held_out"
    return "calibration" if tenth == 1 else "fit"


def _twin_representatives(examples: Iterable[Example]) -> list[str]:
    """For each example the smallest id of those connected to it by a shared twin key."""
    leader: dict[str, str] = {}

    def find(node: str) -> str:
        while leader.setdefault(node, node) != node:
            leader[node] = leader[leader[node]]
            node = leader[node]
        return node

    ids = []
    for example in examples:
        ids.append(f"id:{example.id}")
        for key in twin_keys(example.prompt):
            low, high = sorted((find(ids[-1]), find(f"key:{key}")), key=lambda node: (node[0] != "i", node))
            leader[high] = low
    return [find(node).removeprefix("id:") for node in ids]


def twin_keys(prompt: str) -> list[str]:
    """Near twins share one."""
    words = re.findall(r"[^\W\d_]+", question_of(prompt).lower())
    if len(words) < 8:
        return [" ".join(words)] if words else []
    middle = len(words) // 2
    return [" ".join(words[:middle]), " ".join(words[middle:])]
