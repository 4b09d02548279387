"""The arguments of a tool's call, for APIs that say them as an object and not as text."""

from typing import Any

import orjson
from pydantic_core import from_json

from experts.errors import EngineError


def arguments_of(name: str, text: str, *, cut: bool) -> dict[str, Any]:
    """Parses what the tool ``name`` is called with. ``cut``: the answer ended before they did, and the part
    there is is taken, as clients do with a stream. Raises EngineError."""
    parsed = object_in(text)
    if parsed is None and cut:
        try:
            parsed = from_json(text, allow_partial=True)
        except ValueError:
            parsed = {}
    if not isinstance(parsed, dict):
        raise EngineError(f"The model called the tool {name!r} with what is no JSON object; try again.")
    return parsed


def object_in(text: str) -> dict[str, Any] | None:
    """Parses arguments; None: they are no JSON object."""
    try:
        parsed = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        return None
    return parsed if isinstance(parsed, dict) else None
