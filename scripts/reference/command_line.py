"""Renders the reference of the ``coe`` command from its parser."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from server.cli.main import parser

CHECKOUT = Path(__file__).resolve().parents[2]
SHARED = ("config", "url")
"""Options that many verbs have; the head of the page explains them once."""

HEAD = """# The `coe` command

A failure is one line on standard error and exit status 1; Ctrl-C is status 130. Verbs that read a
configuration take `--config FILE`; without it they read the file that `COE_CONFIG` names, else the embedded
composition. Verbs that talk to a running gateway take `--url URL`; without it they use `COE_URL`, else the
address in the configuration. Their key is `COE_ADMIN_KEY`, else `server.admin_key` of the configuration.
`coe bench` needs a source checkout.
"""


def command_line() -> str:
    """The page: a table of all verbs, then the options of each."""
    found = list(verbs(parser()))
    table = "".join(f"| [`{name}`](#{_anchor(name)}) | {verb.description} |\n" for name, verb in found)
    sections = "\n".join(_section(name, verb) for name, verb in found)
    return f"{HEAD}\n| verb | what it does |\n|---|---|\n{table}\n{sections}"


def verbs(top: argparse.ArgumentParser, name: str = "coe") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every verb that does something, with its parser."""
    children = [action for action in top._actions if isinstance(action, argparse._SubParsersAction)]
    if not children:
        yield name, top
    for action in children:
        for child_name, child in action.choices.items():
            yield from verbs(child, f"{name} {child_name}")


def _anchor(name: str) -> str:
    return name.replace(" ", "-")


def _section(name: str, verb: argparse.ArgumentParser) -> str:
    own = [action for action in verb._actions if action.dest not in ("help", *SHARED)]
    shared = [f"`--{dest}`" for dest in SHARED if any(action.dest == dest for action in verb._actions)]
    takes = f" Takes {' and '.join(shared)}." if shared else ""
    blocks = [f"## {name}", f"{_sentence(verb.description or '')}{takes}", "\n".join(map(_line, own))]
    return "\n\n".join(filter(None, blocks)) + "\n"


def _line(action: argparse.Action) -> str:
    """One argument: how it is written, what it means, what it is by default."""
    notes = [action.help or ""]
    if action.choices is not None and action.metavar is None:
        notes.append(f"one of {', '.join(map(str, action.choices))}")
    if action.option_strings and action.required:
        notes.append("required")
    default = _default(action)
    if default and default not in (action.help or ""):
        notes.append(f"default: {default}")
    short = "".join(f"`{option}`, " for option in action.option_strings[:-1])
    return f"- {short}`{_spelled(action)}`: {'; '.join(note for note in notes if note)}"


def _spelled(action: argparse.Action) -> str:
    value = action.metavar or (action.dest.upper() if action.option_strings else action.dest)
    shown = value if isinstance(value, str) else " ".join(value)
    match action.nargs:
        case 0:
            return action.option_strings[-1]
        case "+":
            shown = f"{shown} ..."
        case "*":
            shown = f"[{shown} ...]"
        case _:
            pass
    return " ".join([*action.option_strings[-1:], shown])


def _default(action: argparse.Action) -> str:
    value = action.default
    if isinstance(value, Path) and value.is_relative_to(CHECKOUT):
        value = value.relative_to(CHECKOUT)
    if value is None or isinstance(value, bool) or value == argparse.SUPPRESS or value == []:
        return ""
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
