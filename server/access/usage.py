"""Counts what each key used of each expert on each day: rows, and questions for them."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

NO_EXPERT = "-"
"""Stands in the place of the expert where a request ended before it had one."""
_FIRST = date(1970, 1, 1)


class Spent(NamedTuple):
    """Usage of some requests. ``errors``: those of them that ended with a status from 400 on.
    ``cached_tokens``: those of the prompts' that the engine still had computed, where it says so."""

    requests: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    def plus(self, other: "Spent") -> "Spent":
        return Spent(
            self.requests + other.requests,
            self.errors + other.errors,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
        )


class Place(NamedTuple):
    """The row that usage is counted in. ``day``: days since 1970, of UTC, on which the requests came."""

    day: int
    key: str
    expert: str


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """A question for rows; None: no matter. Both days are among them."""

    since: int | None = None
    until: int | None = None
    key: str | None = None
    expert: str | None = None


class UsageRow(BaseModel):
    """The row of a day, a key and an expert. ``day``: of UTC."""

    model_config = ConfigDict(frozen=True)

    day: date
    key: str
    expert: str
    requests: int
    errors: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int

    @classmethod
    def of(cls, place: Place, spent: Spent) -> "UsageRow":
        return cls(
            day=date_of(place.day),
            key=place.key,
            expert=place.expert,
            requests=spent.requests,
            errors=spent.errors,
            prompt_tokens=spent.prompt_tokens,
            completion_tokens=spent.completion_tokens,
            cached_tokens=spent.cached_tokens,
        )


class Usage(BaseModel):
    """The answer of ``GET /v1/coe/usage``, from the first day on."""

    model_config = ConfigDict(frozen=True)

    rows: tuple[UsageRow, ...]


def date_of(day: int) -> date:
    return _FIRST + timedelta(days=day)


def day_of(text: str) -> int:
    """Returns the day of a date such as 2026-01-31, or of a time: of UTC unless it says otherwise. Raises
    ValueError."""
    moment = datetime.fromisoformat(text)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return (moment.date() - _FIRST).days
