"""Writes a draft as a configuration for people: every choice beside the reason for it."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from server.proposal.composition import Composed
from server.proposal.draft import COMPOSITION, Draft, Entry

HEAD = """\
# Written by coe init. Edit it as you like; configs/example.yaml explains every field.
# coe init MORE --out {name} adds checkpoints and leaves what is here as it is.
"""


def document(
    name: str,
    draft: Draft,
    composition: Composed | None,
    budgets: Sequence[str] = (),
    sizes: Mapping[str, str] = {},
) -> str:
    """Returns the whole text of a new configuration called ``name``. ``budgets``: what was said of memory;
    ``sizes``: of each family, what is chosen now where nothing is given."""
    lines = [HEAD.format(name=name), "tiers:", *_comments(["auto: what is free at each start.", *budgets], 2)]
    lines += ["  device: auto", "  host: auto", "", "families:"]
    lines += [
        line for family, entry in draft.families.items() for line in family_lines(family, entry, 2, sizes)
    ]
    lines += ["", "experts:"]
    lines += [line for expert, entry in draft.experts.items() for line in entry_lines(expert, entry, 2)]
    if composition is not None:
        lines += ["", "compositions:", *composition_lines(composition, 2)]
    return "\n".join(lines) + "\n"


def family_lines(
    name: str,
    entry: Entry,
    indent: int,
    sizes: Mapping[str, str] = {},
) -> list[str]:
    """Writes one family, with the sizes that are chosen now as a comment."""
    comments = (*entry.comments, *((sizes[name],) if name in sizes else ()))
    return entry_lines(name, Entry(entry.fields, comments), indent)


def entry_lines(name: str, entry: Entry, indent: int) -> list[str]:
    """Writes one entry of a mapping, a line for each field."""
    lines = [*_comments(entry.comments, indent), f"{' ' * indent}{scalar(name)}:"]
    lines += [f"{' ' * (indent + 2)}{scalar(key)}: {flow(value)}" for key, value in entry.fields.items()]
    return lines


def composition_lines(composition: Composed, indent: int) -> list[str]:
    """Writes the composition; its map has a line for each category."""
    plain = {key: value for key, value in composition.fields.items() if key != "mapping"}
    lines = entry_lines(COMPOSITION, Entry(plain), indent)
    lines += _comments(composition.comments, indent + 2)
    if "mapping" in composition.fields:
        lines.append(f"{' ' * (indent + 2)}mapping:")
        for category, expert in composition.fields["mapping"].items():
            lines.append(f"{' ' * (indent + 4)}{scalar(category)}: {scalar(expert)}")
    return lines


def flow(value: Any) -> str:
    """Writes a value on one line."""
    made: str = yaml.safe_dump(
        value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=2**20
    )
    return made.removesuffix("\n").removesuffix("\n...")


def scalar(value: str) -> str:
    """Writes a text as YAML reads it back as a text."""
    return flow(value)


def _comments(said: Sequence[str], indent: int) -> list[str]:
    return [f"{' ' * indent}# {line}" for text in said for line in text.splitlines()]
