"""Adds entries to a configuration that somebody wrote, and leaves every character of it as it is."""

from collections.abc import Mapping
from typing import Any

import yaml

from server.config.settings import SettingsError
from server.proposal.document import entry_lines, flow, scalar
from server.proposal.draft import Draft, Entry


def with_added(text: str, draft: Draft, where: str) -> str:
    """Returns ``text`` with a draft's families and experts at the ends of their sections. ``where``: the
    file, for messages. Raises SettingsError where the layout leaves no place."""
    before: dict[str, Any] = yaml.safe_load(text)
    wanted = dict(before)
    for section, entries in (("families", draft.families), ("experts", draft.experts)):
        if entries:
            text = _with_entries(text, section, entries, where)
            wanted[section] = {
                **before[section],
                **{name: dict(each.fields) for name, each in entries.items()},
            }
    try:
        same = yaml.safe_load(text) == wanted
    except yaml.YAMLError:
        same = False
    if not same:
        raise SettingsError(f"{where}: its layout leaves no place to add to; add by hand:\n{by_hand(draft)}")
    return text


def by_hand(draft: Draft) -> str:
    """Writes what would be added, for people to add."""
    lines = []
    for section, entries in (("families", draft.families), ("experts", draft.experts)):
        if entries:
            lines += [
                f"{section}:",
                *(line for name, each in entries.items() for line in entry_lines(name, each, 2)),
            ]
    return "\n".join(lines)


def _with_entries(text: str, section: str, entries: Mapping[str, Entry], where: str) -> str:
    node = _section(text, section)
    if node is None:
        raise SettingsError(f"{where}: {section}: is no mapping; add by hand")
    if node.flow_style:
        place = node.end_mark.index - 1
        inside = text[node.start_mark.index + 1 : place].rstrip()
        comma = "" if not node.value or inside.endswith(",") else ", "
        made = ", ".join(f"{scalar(name)}: {flow(dict(each.fields))}" for name, each in entries.items())
        return text[:place] + comma + made + text[place:]
    indent = node.value[0][0].start_mark.column
    place = _end_of(text, node)
    lines = [line for name, each in entries.items() for line in entry_lines(name, each, indent)]
    glue = "" if place == 0 or text[place - 1] == "\n" else "\n"
    return text[:place] + glue + "\n".join(lines) + "\n" + text[place:]


def _section(text: str, name: str) -> yaml.MappingNode | None:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if isinstance(root, yaml.MappingNode):
        for key, value in root.value:
            if key.value == name and isinstance(value, yaml.MappingNode):
                return value
    return None


def _end_of(text: str, node: yaml.Node) -> int:
    """Finds the end of the line where a block's last value ends; what follows, comments too, is of what comes
    next."""
    last: yaml.Node = node
    while isinstance(last, yaml.CollectionNode) and not last.flow_style and last.value:
        entry = last.value[-1]
        last = entry[1] if isinstance(entry, tuple) else entry
        if isinstance(last, yaml.ScalarNode) and last.value == "" and isinstance(entry, tuple):
            last = max(entry, key=lambda part: part.end_mark.index)
    end = last.end_mark
    if end.column == 0 and end.index:
        return int(end.index)
    line_end = text.find("\n", end.index)
    return len(text) if line_end < 0 else line_end + 1
