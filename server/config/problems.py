"""First problem of a configuration, as one line for operators."""

import difflib
from collections.abc import Collection, Iterator
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from server.config.api_keys import TAGS
from server.validation import problem_of


def first_problem(error: ValidationError, root: type[BaseModel]) -> str:
    """Returns one line: where the problem is, and what to write instead. ``root``: the model of the whole
    configuration."""
    problem = problem_of(error)
    location = [str(part) for part in problem.location if part not in TAGS]
    where = ".".join(location)
    if problem.kind == "extra_forbidden":
        fields = _fields_at(root, location[:-1])
        return f"{where}: unknown field; {_suggestion(location[-1], fields)}"
    if problem.kind == "missing":
        return f"{where}: missing; this field is required"
    return f"{where}: {problem.reason}" if where else problem.reason


def unknown(name: str, valid: Collection[str]) -> str:
    """Says that a name is not defined, and which may have been meant."""
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.4)
    hint = f"did you mean {close[0]!r}?" if close else f"valid names: {', '.join(sorted(valid)) or 'none'}"
    return f"{name!r} is not defined; {hint}"


def _suggestion(name: str, fields: list[str]) -> str:
    close = difflib.get_close_matches(name, fields, n=1, cutoff=0.4)
    return f"did you mean {close[0]!r}?" if close else f"valid fields: {', '.join(fields)}"


def _fields_at(root: type[BaseModel], location: list[str]) -> list[str]:
    """Returns the field names of the model at a path such as ``["experts", "law", "checkpoint"]``."""
    model = root
    keyed = False  # the next part is a key of a dict or a position, not a field
    for part in location:
        if keyed:
            keyed = False
            continue
        annotation = model.model_fields[part].annotation
        model = next(_models_in(annotation))
        keyed = get_origin(annotation) in (dict, tuple)
    return list(model.model_fields)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)
