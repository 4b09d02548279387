"""Outcomes of checks: whether a result is right, and the figures beside what the machine could do."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number. ``limit``: what the machine or the aim allows, in the same unit; None: unknown."""

    name: str
    value: float
    unit: str
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one check. ``wrong``: what is not as it has to be; empty where all is right.
    ``skipped``: why it did not run here."""

    check: str
    wrong: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = field(default=())
    skipped: str = ""

    @property
    def right(self) -> bool:
        return not self.wrong


def lines(outcomes: Sequence[Outcome]) -> list[str]:
    """Formats outcomes as a table in Markdown, then what is wrong."""
    rows = ["| check | figure | measured | limit | of it |", "|---|---|---:|---:|---:|"]
    for outcome in outcomes:
        if outcome.skipped:
            rows.append(f"| {outcome.check} | not run: {outcome.skipped} | - | - | - |")
        for figure in outcome.figures:
            limit = "-" if figure.limit is None else f"{figure.limit:.4g} {figure.unit}"
            share = "-" if not figure.limit else f"{figure.value / figure.limit:.0%}"
            rows.append(
                f"| {outcome.check} | {figure.name} | {figure.value:.4g} {figure.unit} | {limit} | {share} |"
            )
    return rows + [f"WRONG {outcome.check}: {what}" for outcome in outcomes for what in outcome.wrong]


def report(outcomes: Sequence[Outcome], device: str, profile: str) -> dict[str, Any]:
    """Returns all of it for JSON."""
    return {
        "device": device,
        "limits_of": profile,
        "right": all(outcome.right for outcome in outcomes),
        "checks": [asdict(outcome) for outcome in outcomes],
    }
