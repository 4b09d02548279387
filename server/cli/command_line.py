"""The parser of the command line: what is wrong is one line, with the nearest word that would be right."""

import argparse
import difflib
import re
from collections.abc import Iterable, Iterator
from typing import NoReturn

_CHOICE = re.compile(r"argument (.+?): invalid choice: '(.*)' \(choose from (.*)\)")
_UNKNOWN = re.compile(r"unrecognized arguments: (\S+).*")


class CommandLine(argparse.ArgumentParser):
    """A parser whose verbs are parsers of this kind too."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {self._said(message)} ({self.prog} --help)\n")

    def _said(self, message: str) -> str:
        if chosen := _CHOICE.fullmatch(message):
            known = [word.strip(" '") for word in chosen[3].split(",")]
            return f"{chosen[1]}: there is no {chosen[2]!r}{nearest(chosen[2], known)}"
        if unknown := _UNKNOWN.fullmatch(message):
            return f"there is no {unknown[1]!r} here{nearest(unknown[1], set(_options(self)))}"
        return message


def nearest(word: str, known: Iterable[str]) -> str:
    """Returns a question for the known word that is most like ``word``; else all that are known, where
    these are few."""
    words = sorted(known)
    if close := difflib.get_close_matches(word.partition("=")[0], words, n=1):
        return f"; did you mean {close[0]}?"
    return f"; there are {', '.join(words)}" if len(words) <= 12 else ""


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yields the options of a parser and of its verbs: what a verb leaves over, its parent finds."""
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                yield from _options(verb)
