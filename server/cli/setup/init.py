"""`coe init`: a configuration for checkpoints that are there."""

import argparse
import difflib
import functools
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from experts.survey.candidate import FullWeights
from memory_tiers.simulator.this_machine import measured
from router.atomic_file import replace_file
from server.cli.arguments import Parent, add_verb
from server.config.settings import SettingsError
from server.proposal.composition import categories_of, composed, general_of
from server.proposal.draft import Draft
from server.proposal.proposal import NoQuestions, Proposal, Questions, propose
from server.proposal.summary import summary

SAMPLE = 64 * 2**20
"""Bytes that are copied and read to tell what loads will cost."""


def add_to(parent: Parent) -> None:
    made = add_verb(
        parent, "init", init, "write a configuration for checkpoints, or add some to one", config=False
    )
    made.add_argument(
        "checkpoints",
        nargs="+",
        metavar="CHECKPOINT",
        help="a folder in Hugging Face's layout, a folder of such, a PEFT adapter, a repository's name, or a "
        "folder of an object store (s3://...)",
    )
    made.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the file to write, or to add to"
    )
    made.add_argument(
        "--artifact",
        type=Path,
        metavar="FOLDER",
        help="a router of your own; where it has scores of these experts, its map is solved from them",
    )
    made.add_argument(
        "--yes", action="store_true", help="ask nothing: guess, and leave out what is not known"
    )


def init(options: argparse.Namespace) -> int:
    """Writes the configuration and prints the plan. Raises what ``propose`` does."""
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    questions: Questions = Terminal() if terminal and not options.yes else NoQuestions()
    new = not options.out.exists()
    proposal = propose(options.checkpoints, options.out, questions, options.artifact, _looking)
    if proposal.draft.experts:
        try:
            replace_file(options.out, proposal.text.encode(), mode=0o644)
        except OSError as error:
            raise SettingsError(f"--out {options.out}: {error.strerror}") from error
    print("\n".join(_report(options.out, proposal, new)))
    return 0


def _looking(shown: str) -> None:
    print(f"looking at {shown}", file=sys.stderr)


def _report(out: Path, proposal: Proposal, new: bool) -> list[str]:
    draft = proposal.draft
    lines = [f"{shown}: is there already" for shown in proposal.there]
    for name, entry in draft.experts.items():
        lines.append(f"expert {name}: {draft.found[name].place.shown}, in family {entry.fields['family']}")
    lines += [f"left out {each.shown}: {each.reason}" for each in proposal.left_out]
    lines += proposal.apart
    if not draft.experts:
        return [*lines, f"{out} stays as it is"]
    if proposal.proof is not None:
        lines += ["", *summary(proposal.proof, functools.partial(measured, SAMPLE))]
    lines += ["", f"{'wrote' if new else 'added to'} {out}"]
    if proposal.composition is not None and proposal.composition.guessed:
        said = ", ".join(f"{category}: {expert}" for category, expert in proposal.composition.guessed.items())
        lines.append(f"The map of its composition coe is guessed ({said}); fill it in.")
    if not new and draft.generating:
        lines.append("No composition chooses what was added; name it in a map, or ask for it by its name.")
    return [*lines, f"Next: coe serve --prepare --config {out}"]


class Terminal:
    """Asks in a terminal. An empty answer takes what is proposed."""

    def template(self, candidate: FullWeights) -> Path | None:
        while given := _asked(
            f"{candidate.place.shown} has no chat template. A Jinja file, or nothing to leave it out"
        ):
            path = Path(given).expanduser()
            if path.is_file() and os.access(path, os.R_OK):
                return path
            print(f"{given}: no such file")
        return None

    def mapping(self, draft: Draft, artifact: Path | None) -> Mapping[str, str]:
        proposed = composed(draft, artifact)
        if proposed is None or not proposed.guessed or len(draft.generating) == 1:
            return {}
        categories = categories_of(artifact)
        general = self._expert("Which expert answers what no other is for?", draft, general_of(draft))
        answers = {categories[0]: general}
        print(f"Categories: {', '.join(categories[1:])}")
        for name in draft.generating:
            if name != general:
                guess = [
                    category
                    for category, expert in proposed.guessed.items()
                    if expert == name and category != categories[0]
                ]
                answers |= dict.fromkeys(self._categories(name, guess, categories), name)
        return answers

    def _expert(self, question: str, draft: Draft, guess: str) -> str:
        while True:
            given = _asked(f"{question} {', '.join(draft.generating)}", guess)
            if given in draft.generating:
                return given
            print(_unknown("expert", given, draft.generating))

    def _categories(self, expert: str, guess: list[str], categories: tuple[str, ...]) -> list[str]:
        while True:
            given = _asked(f"What is {expert} for? Categories, with commas", ", ".join(guess) or "none")
            named = [word.strip() for word in given.split(",") if word.strip() and word.strip() != "none"]
            unknown = [name for name in named if name not in categories]
            if not unknown:
                return named
            print(_unknown("category", unknown[0], categories))


def _unknown(kind: str, given: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(given, known, n=1)
    return f"{given}: no such {kind}{f'; did you mean {close[0]}?' if close else ''}"


def _asked(question: str, proposed: str = "") -> str:
    """Asks one question. Raises SettingsError where the terminal is closed."""
    try:
        given = input(f"{question}{f' [{proposed}]' if proposed else ''}: ").strip()
    except EOFError:
        raise SettingsError("no answer came; coe init --yes asks nothing") from None
    return given or proposed
