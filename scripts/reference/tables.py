"""Writes Markdown tables."""

import re
from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells may hold ``|`` and line ends."""
    lines = [head, ["---"] * len(head), *([cell(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def cell(text: str) -> str:
    """Text of a docstring as one cell: on one line, with Markdown's code marks, and with links to the pages
    that it names by their path."""
    line = " ".join(text.replace("``", "`").split()).replace("|", "\\|")
    return re.sub(r"\bdocs/([\w/-]+\.md)", r"[\1](../\1)", line)
