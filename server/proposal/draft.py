"""Drafts of a configuration's families and experts, out of what a survey grouped."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experts.spec import CheckpointSource
from experts.survey.candidate import Adapter, Found, FullWeights
from experts.survey.families import Group
from experts.survey.names import expert_name, family_name, shown_path

COMPOSITION = "coe"


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a mapping of the configuration: its fields, and comments above it."""

    fields: Mapping[str, Any]
    comments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Draft:
    """New families and experts by name, and what each expert was found to be. ``bases``: of LoRA families."""

    families: Mapping[str, Entry]
    experts: Mapping[str, Entry]
    found: Mapping[str, Found]
    bases: Mapping[str, FullWeights] = field(default_factory=dict)

    @property
    def generating(self) -> tuple[str, ...]:
        """The experts that a composition may choose."""
        return tuple(
            name for name, each in self.found.items() if isinstance(each, Adapter) or each.task == "generate"
        )


def drafted(
    groups: Sequence[Group],
    folder: Path,
    taken: Iterable[str] = (),
    joins: Mapping[int, str] = {},
) -> Draft:
    """Drafts ``groups`` for a configuration in ``folder``, beside the names ``taken``. ``joins``: the family
    that is there already, for the groups at some places."""
    used = {*taken, COMPOSITION}
    families: dict[str, Entry] = {}
    experts: dict[str, Entry] = {}
    found: dict[str, Found] = {}
    bases: dict[str, FullWeights] = {}
    for place, group in enumerate(groups):
        if place in joins:
            family = joins[place]
        else:
            kind, size = group.leader.kind, group.leader.parameters
            family = family_name(kind, size, group.base is not None, used)
            families[family] = _family(group, folder)
        used |= {family, f"{family}.base"}
        if group.base is not None:
            bases[family] = group.leader
        for each in group.members:
            name = expert_name(each.place.source, used)
            used.add(name)
            found[name] = each
            experts[name] = _expert(each, family, group, folder)
    return Draft(families, experts, found, bases)


def _family(group: Group, folder: Path) -> Entry:
    leader, parsers = group.leader, group.parsers
    fields: dict[str, Any] = {}
    comments = [f"{_counted(group)} of {leader.kind}, {_millions(leader.parameters)} million parameters"]
    if group.base is not None:
        fields |= {"mode": "lora", "base": source_fields(group.base, folder)}
        comments[0] += ": adapters of one base, computed in one batch."
        if len(group.adapters) > 8:
            fields["max_loras"] = 8
    elif leader.task == "embed":
        fields |= {"task": "embed", "mode": "plain"}
        comments[0] += ": asked at /v1/embeddings."
    elif leader.plain_because is not None:
        fields["mode"] = "plain"
        comments[0] += ", one at a time:"
        comments.append(f"{leader.plain_because}.")
    else:
        fields["mode"] = "interleaved"
        turns = ": they take turns in one engine, token by token." if len(group.members) > 1 else "."
        comments[0] += turns
    if parsers.tool or parsers.reasoning:
        comments.append("Parsers are guessed from the chat template: remove what is wrong.")
    fields |= {"tool_parser": parsers.tool} if parsers.tool else {}
    fields |= {"reasoning_parser": parsers.reasoning} if parsers.reasoning else {}
    return Entry(fields, tuple(comments))


def _counted(group: Group) -> str:
    return "One expert" if len(group.members) == 1 else f"{len(group.members)} experts"


def _millions(parameters: int) -> str:
    return f"{parameters / 1e6:,.0f}" if parameters >= 10**7 else f"{parameters / 1e6:.2g}"


def _expert(each: Found, family: str, group: Group, folder: Path) -> Entry:
    fields: dict[str, Any] = {"family": family, "checkpoint": source_fields(each.place.source, folder)}
    if isinstance(each, FullWeights):
        if each.template is not None:
            fields["chat_template"] = shown_path(each.template, folder)
        capabilities = [name for name in each.capabilities if name != "tools" or group.parsers.tool]
        if capabilities or (group.parsers.tool and each.task == "generate"):
            fields["capabilities"] = capabilities
    return Entry(fields)


def source_fields(source: CheckpointSource, folder: Path) -> dict[str, str]:
    """Writes a source for a configuration in ``folder``."""
    given = {name: str(value) for name, value in source.model_dump(exclude_none=True).items()}
    return given if source.folder is None else {"folder": shown_path(source.folder, folder)}
