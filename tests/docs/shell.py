"""Splits the shell blocks of the documentation into commands."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from tests.docs.markdown import Block

SEPARATORS = {"|", "||", "&&", ";", "&"}


@dataclass(frozen=True, slots=True)
class Command:
    """One program with its arguments, without redirections and variables set before it."""

    block: Block
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.block} {shlex.join(self.words)}"


def commands(block: Block) -> Iterator[Command]:
    """The commands of a block: one a line, or several with ``|`` and the like between them."""
    for line in block.text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word not in SEPARATORS:
                words.append(word)
            elif words:
                yield Command(block, tuple(_bare(words)))
                words = []


def _bare(words: list[str]) -> list[str]:
    """Without variables that are set for the command, and without what it is redirected to."""
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    return words[: next((place for place, word in enumerate(words) if word in (">", "<", ">>")), len(words))]
