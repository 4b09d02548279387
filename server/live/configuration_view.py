"""The configuration as it is told: what is in force, without secrets, and what a reload would change."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from pydantic import SecretStr

from server.config.settings import Settings

HIDDEN = "(hidden)"
_SECRET_ARGUMENT = re.compile(r"key|token|secret|password", re.IGNORECASE)


def in_force(settings: Settings) -> str:
    """Writes the settings as YAML, without secrets."""
    return yaml.safe_dump(_shown(settings.model_dump(mode="python")), sort_keys=False, allow_unicode=True)


def changes(now: Settings, coming: Settings) -> list[dict[str, Any]]:
    """Lists the settings that differ, by their path. A secret that differs is said to, and not shown."""
    before, after = dict(_flat(now.model_dump())), dict(_flat(coming.model_dump()))
    return [
        {"setting": path, "in_force": _text(before.get(path)), "in_file": _text(after.get(path))}
        for path in sorted({*before, *after})
        if before.get(path) != after.get(path)
    ]


def _shown(value: Any) -> Any:
    """Returns ``value`` as YAML can write it."""
    if isinstance(value, SecretStr):
        return HIDDEN
    if isinstance(value, Mapping):
        return {str(name): _shown(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return _arguments([_shown(each) for each in value])
    if isinstance(value, bool | float | str) or value is None:
        return value
    return int(value) if isinstance(value, int) else str(value)


def _arguments(values: list[Any]) -> list[Any]:
    """Hides what follows the name of a secret on a command line."""
    hidden: list[Any] = []
    for value in values:
        before = hidden[-1] if hidden else None
        if (
            isinstance(value, str)
            and value.startswith("--")
            and _SECRET_ARGUMENT.search(value.partition("=")[0])
        ):
            hidden.append(f"{value.partition('=')[0]}={HIDDEN}" if "=" in value else value)
        elif (
            isinstance(before, str)
            and before.startswith("--")
            and _SECRET_ARGUMENT.search(before)
            and "=" not in before
        ):
            hidden.append(HIDDEN)
        else:
            hidden.append(value)
    return hidden


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, each in value.items():
            yield from _flat(each, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list | tuple) and any(isinstance(each, Mapping) for each in value):
        for at, each in enumerate(value):
            named = each.get("name") if isinstance(each, Mapping) else None
            yield from _flat(each, f"{path}[{named or at}]")
    else:
        yield path, value


def _text(value: Any) -> str | None:
    return (
        None
        if value is None
        else yaml.safe_dump(_shown(value), default_flow_style=True).removesuffix("\n...\n").strip()
    )
