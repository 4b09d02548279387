"""Lines of a batch's input file: all checked before the first is answered, and read again one by one."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from server.batches.records import LineError
from server.config.limits import LimitsConfig
from server.transport.json_structure import excess, structure_of

MOST_ERRORS = 100
"""Most errors that a client is told; checking stops there."""
LONGEST_ID = 512


@dataclass(frozen=True, slots=True)
class Line:
    """Place of a request in its file, in bytes."""

    custom_id: str
    offset: int
    size: int


@dataclass(slots=True)
class Checked:
    """Result of checking an input file. ``model``: of all requests; None: they name several. With ``errors``
    nothing is run."""

    lines: list[Line] = field(default_factory=list)
    errors: list[LineError] = field(default_factory=list)
    model: str | None = None


def check(file: BinaryIO, endpoint: str, *, most: int, longest: int, limits: LimitsConfig) -> Checked:
    """Checks all of a file, of which one line is in memory at a time. ``most``: requests; ``longest``: bytes
    of one. Empty lines are passed over. Not for the event loop."""
    checked = Checked()
    models: set[str | None] = set()
    seen: set[str] = set()
    for number, offset, raw in _raw_lines(file, longest):
        if len(checked.lines) == most:
            message = f"The file has more than the {most:,} requests that a batch may have; split it."
            checked.errors.append(LineError("too_many_tasks", message))
        if len(checked.errors) >= MOST_ERRORS or len(checked.lines) >= most:
            break
        found = _found(raw, number, endpoint, longest, limits, seen)
        if isinstance(found, LineError):
            checked.errors.append(found)
            continue
        seen.add(found.custom_id)
        models.add(found.model)
        checked.lines.append(Line(found.custom_id, offset, len(raw)))
    if not checked.lines and not checked.errors:
        checked.errors.append(LineError("empty_file", "The file has no requests."))
    checked.model = models.pop() if len(models) == 1 else None
    return checked


def body_at(path: Path, line: Line) -> bytes:
    """Returns the request's body as JSON. Raises FileNotFoundError. Not for the event loop."""
    with path.open("rb") as file:
        file.seek(line.offset)
        return orjson.dumps(orjson.loads(file.read(line.size))["body"])


@dataclass(frozen=True, slots=True)
class _Found:
    custom_id: str
    model: str | None


def _raw_lines(file: BinaryIO, longest: int) -> Iterator[tuple[int, int, bytes]]:
    """Yields number, offset and bytes of each line that is not empty; of one that is too long only the
    beginning."""
    number = offset = 0
    while raw := file.readline(longest + 1):
        number += 1
        size = len(raw)
        while raw[-1:] != b"\n" and (rest := file.readline(longest + 1)):
            size += len(rest)
            if rest.endswith(b"\n"):
                break
        if raw.strip():
            yield number, offset, raw
        offset += size


def _found(
    raw: bytes, number: int, endpoint: str, longest: int, limits: LimitsConfig, seen: set[str]
) -> _Found | LineError:
    def wrong(code: str, message: str, param: str | None = None) -> LineError:
        return LineError(code, message, number, param)

    if len(raw) > longest:
        return wrong(
            "line_too_long", f"This line has more than the {longest:,} bytes that a request may have."
        )
    problem = excess(structure_of(raw), limits)
    if problem is not None:
        return wrong("invalid_value", f"This line {problem}.")
    try:
        request: Any = orjson.loads(raw)
    except orjson.JSONDecodeError:
        request = None
    if not isinstance(request, dict):
        return wrong("invalid_json_line", "This line is not parseable as valid JSON.")
    for name in ("custom_id", "method", "url", "body"):
        if request.get(name) is None:
            return wrong("missing_required_parameter", f"Missing required parameter: '{name}'.", name)
    custom_id, url, body = request["custom_id"], request["url"], request["body"]
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= LONGEST_ID:
        message = f"'custom_id' must be a string of 1 to {LONGEST_ID} characters."
        return wrong("invalid_value", message, "custom_id")
    if custom_id in seen:
        message = f"The custom_id {custom_id!r} is a duplicate of another request's; each must be unique."
        return wrong("duplicate_custom_id", message, "custom_id")
    if request["method"] != "POST":
        return wrong("invalid_method", "'method' must be 'POST'.", "method")
    if url != endpoint:
        message = f"'url' is {str(url)[:100]!r}, but the batch's endpoint is {endpoint!r}."
        return wrong("url_mismatch", message, "url")
    if not isinstance(body, dict):
        return wrong("invalid_value", "'body' must be an object.", "body")
    model = body.get("model")
    return _Found(custom_id, model if isinstance(model, str) else None)
