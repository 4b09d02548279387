"""Problems that pydantic found: the field, and why."""

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError


@dataclass(frozen=True, slots=True)
class Problem:
    """First problem of a value. ``location``: the way to the field, from the outside in. ``kind`` and
    ``context``: pydantic's."""

    location: tuple[int | str, ...]
    reason: str
    kind: str
    context: dict[str, Any]

    @property
    def field(self) -> str:
        """Names the field; empty for the whole."""
        return ".".join(map(str, self.location))


def problem_of(error: ValidationError) -> Problem:
    """Returns the first problem; before all others a field that nobody knows, since one that is misspelt is
    missing as well."""
    problems = error.errors(include_url=False, include_input=False)
    found = min(problems, key=lambda each: each["type"] != "extra_forbidden")
    reason = found["msg"].removeprefix("Value error, ")
    return Problem(found["loc"], reason, found["type"], dict(found.get("ctx") or {}))
