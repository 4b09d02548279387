"""Writes the lines that ``router/data/dataset.py`` reads: a file that is there in full, or as it was
before."""

import gzip
import json
from collections.abc import Iterable
from pathlib import Path

from router.atomic_file import replace_file
from router.data.dataset import Example
from router.errors import DatasetError


def write_examples(file: Path, examples: Iterable[Example]) -> None:
    """Writes examples; the same ones give the same bytes. Raises DatasetError."""
    write_lines(file, (_line(example) for example in examples))


def write_lines(file: Path, lines: Iterable[str]) -> None:
    """Compressed if the name ends in ``.gz``. It may hold what people asked, so only its owner may read
    it. Raises DatasetError."""
    content = "".join(f"{line}\n" for line in lines).encode()
    try:
        compressed = gzip.compress(content, mtime=0) if file.suffix == ".gz" else content
        replace_file(file, compressed, mode=0o600)
    except OSError as error:
        raise DatasetError(f"{file} cannot be written: {error.strerror}") from error


def _line(example: Example) -> str:
    tree: dict[str, object] = {"id": example.id, "prompt": example.prompt}
    if example.category is not None:
        tree["category"] = example.category
    if example.scores:
        tree["scores"] = dict(example.scores)
    return json.dumps(tree, ensure_ascii=False)
