"""The report of ``coe bench router``: seconds of each decision and of its limit, and ratios."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.engine.figures import Aim, Compared, percentile

LATENCY_MS = {20: Aim("at most", 0.5), 200: Aim("at most", 2.0)}
"""Mean of the default embedder by a prompt's tokens."""
PER_SECOND = Aim("at least", 500.0)
"""Batched, of the default embedder."""


@dataclass(frozen=True, slots=True)
class Row:
    """One embedder on prompts of one length: for how many seconds each decision had the core, in order."""

    embedder: str
    rows: int
    """That the map has: categories, or finer ones."""
    tokens: int
    decision: tuple[float, ...]
    embedding: tuple[float, ...]
    """The part of the decision that tokenises and embeds."""
    limit: tuple[float, ...]
    wall: tuple[float, ...]
    """Seconds of the decision by the clock on the wall."""

    @property
    def rest(self) -> tuple[float, ...]:
        return tuple(whole - part for whole, part in zip(self.decision, self.embedding, strict=True))

    @property
    def mean_ms(self) -> float:
        return 1e3 * sum(self.decision) / len(self.decision)

    @property
    def ratio(self) -> float:
        """Median decision to median limit."""
        return milliseconds(self.decision, 50) / milliseconds(self.limit, 50)


@dataclass(frozen=True, slots=True)
class Throughput:
    """Decisions a second of one core when they are asked for together."""

    embedder: str
    rows: int
    per_second: float
    limit_per_second: float

    @property
    def ratio(self) -> float:
        return self.per_second / self.limit_per_second


@dataclass(frozen=True, slots=True)
class Report:
    """One run. ``default``: the cascade, or the embedder that the artifact was trained on."""

    cores: int
    load_average: float
    default: str
    decisions: int
    batch_tokens: int
    rows: tuple[Row, ...]
    batches: tuple[Throughput, ...]

    @property
    def compared(self) -> list[Compared]:
        latencies = [
            Compared(
                f"{row.embedder}, {row.rows} rows: mean ms at {row.tokens} tokens",
                row.mean_ms,
                LATENCY_MS[row.tokens],
            )
            for row in self.rows
            if row.embedder == self.default and row.tokens in LATENCY_MS
        ]
        batches = [
            Compared(
                f"{batch.embedder}, {batch.rows} rows: decisions/s batched", batch.per_second, PER_SECOND
            )
            for batch in self.batches
            if batch.embedder == self.default
        ]
        return latencies + batches

    def json(self) -> dict[str, Any]:
        return {
            "cores": self.cores,
            "load_average": self.load_average,
            "default": self.default,
            "decisions": self.decisions,
            "batch_tokens": self.batch_tokens,
            "rows": [_row(row) for row in self.rows],
            "batches": [asdict(batch) | {"ratio": batch.ratio} for batch in self.batches],
            "compared": [asdict(each) | {"met": each.met} for each in self.compared],
        }


def milliseconds(seconds: Sequence[float], percent: float) -> float:
    return 1e3 * percentile(seconds, percent)


def _row(row: Row) -> dict[str, Any]:
    figures = {
        f"{name}_p{percent}_ms": milliseconds(getattr(row, name), percent)
        for name in ("decision", "wall", "embedding", "rest", "limit")
        for percent in (50, 99)
    }
    return (
        {"embedder": row.embedder, "rows": row.rows, "tokens": row.tokens}
        | figures
        | {
            "decision_mean_ms": row.mean_ms,
            "ratio": row.ratio,
        }
    )
