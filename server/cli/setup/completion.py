"""`coe completion` and `coe help`: what a shell completes, and what a verb does."""

import argparse
from collections.abc import Callable

import shtab

from server.cli.arguments import Parent, add_verb
from server.cli.command_line import nearest
from server.config.settings import SettingsError

SHELLS = ("bash", "zsh", "fish")
MakeParser = Callable[[], argparse.ArgumentParser]


def add_to(parent: Parent, parser: MakeParser) -> None:
    """Adds both verbs. ``parser`` makes the whole command's."""
    made = add_verb(
        parent,
        "completion",
        lambda options: completion(options, parser),
        'print what a shell completes: eval "$(coe completion bash)"',
        config=False,
    )
    made.add_argument("shell", choices=SHELLS, help="the shell that is to complete")
    helped = add_verb(
        parent,
        "help",
        lambda options: explain(options, parser),
        "say what a verb does and takes",
        config=False,
    )
    helped.add_argument(
        "words", nargs="*", metavar="VERB", help="such as serve, or tiers load; all by default"
    )


def completion(options: argparse.Namespace, parser: MakeParser) -> int:
    print(shtab.complete(parser(), shell=options.shell))
    return 0


def explain(options: argparse.Namespace, parser: MakeParser) -> int:
    """Prints a verb's help. Raises SettingsError for a word of no verb."""
    found = parser()
    for word in options.words:
        verbs = _verbs(found)
        if word not in verbs:
            known = nearest(word, verbs) if verbs else "; it has no verbs of its own"
            raise SettingsError(f"{found.prog}: no verb {word!r}{known}")
        found = verbs[word]
    found.print_help()
    return 0


def _verbs(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The verbs below one, by name; argparse keeps them in its action for them."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}
