"""Renders the reference of the configuration: the models' fields with types, defaults and docstrings."""

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ByteSize, SecretStr
from pydantic.fields import FieldInfo

from scripts.reference.tables import cell, table
from server.config.settings import Settings

HEAD = """# Configuration

One YAML file, given by `--config` or `COE_CONFIG`. Unknown fields are errors. `tiers`, `families` and
`experts` must be given; everything else has a default. Sizes are bytes, or text such as `16MiB` or `2GB`;
names that end in `_s` are seconds. `configs/example.yaml` is the same tree as a file that can be copied.
[Changing the configuration](../guides/operate.md#another-configuration) says which fields a reload changes.
"""

KEYS = {"families": "NAME", "experts": "NAME", "compositions": "NAME"}
"""Sections that are mappings, with what stands for a key of theirs."""


def configuration() -> str:
    """The page: the sections of the file in order, each with the models that it holds."""
    return HEAD + "".join(_sections("", Settings, {}))


def _sections(path: str, model: type[BaseModel], seen: dict[type[BaseModel], str]) -> Iterator[str]:
    """``seen``: models that have a section already, with its heading."""
    if model in seen:
        yield f"\n## {path}\n\nThe fields of `{seen[model]}`.\n"
        return
    seen[model] = path
    rows = [_row(name, field) for name, field in model.model_fields.items()]
    fields = table(["field", "type", "default", "meaning"], rows)
    yield f"\n## {path or 'The file'}\n\n{cell(model.__doc__ or '')}\n\n{fields}"
    for name, field in model.model_fields.items():
        child = ".".join(filter(None, [path, name, "" if path else KEYS.get(name, "")]))
        for found in models_in(field.annotation):
            yield from _sections(f"{child}[]" if _is_list(field.annotation) else child, found, seen)


def _row(name: str, field: FieldInfo) -> tuple[str, str, str, str]:
    default = "required" if field.is_required() else default_of(field.get_default(call_default_factory=True))
    return f"`{name}`", kind(field.annotation), default, field.description or ""


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that a field of this type may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    else:
        for part in get_args(annotation):
            yield from models_in(part)


def _is_list(annotation: Any) -> bool:
    return get_origin(annotation) in (tuple, list)


NAMES: dict[Any, str] = {
    ByteSize: "size", bool: "true or false", int: "integer", float: "number", str: "text", Path: "path",
    SecretStr: "secret",
}  # fmt: skip


def kind(annotation: Any) -> str:
    """A type in the words of the file's author."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if annotation in NAMES:
        return NAMES[annotation]
    if origin is Literal:
        return ", ".join(f"`{part}`" for part in parts)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(kind(part) for part in parts if part is not type(None)))
    if origin in (tuple, list, frozenset):
        return f"list of {kind(parts[0])}"
    if origin is dict:
        return f"{kind(parts[1])} by name"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping"
    return kind(parts[0])


def default_of(value: Any) -> str:
    """A default as the file would say it."""
    match value:
        case None:
            return "absent"
        case "":
            return "empty"
        case BaseModel():
            return ""
        case bool():
            return f"`{str(value).lower()}`"
        case ByteSize():
            return f"`{size(value)}`"
        case tuple() | list() | frozenset():
            return f"`[{', '.join(map(str, value))}]`"
        case dict():
            return "`{}`" if not value else f"`{value}`"
        case float() if value == int(value):
            return f"`{int(value)}`"
        case _:
            return f"`{value}`"


def size(value: int) -> str:
    """Bytes in the largest unit that divides them."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10), ("GB", 10**9), ("MB", 10**6)):
        if value and value % factor == 0:
            return f"{value // factor}{unit}"
    return str(value)
