"""Figures from runs, and ratios of figures beside their aims. Pure."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np

from benchmarks.engine.closed_loop import Run
from benchmarks.engine.rival import INTERLEAVED, KVCACHED, LLAMA_CPP, PROCESSES, SLEEPING, SWAPPING
from benchmarks.engine.workload import Cell, share


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of one run, or the median of each over several."""

    requests: float
    tokens: float
    seconds: float
    tokens_per_s: float
    first_token_p50_s: float
    first_token_p99_s: float
    switches: float
    switch_share: float
    """Part of the time that went into changing the expert."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A rival on a cell, in all repetitions."""

    rival: str
    cell: Cell
    runs: tuple[Figures, ...]

    @property
    def median(self) -> Figures:
        return median(self.runs)


@dataclass(frozen=True, slots=True)
class Aim:
    """Aim of ``at_least`` or ``at_most`` an amount."""

    direction: Literal["at least", "at most"]
    value: float

    def met(self, ratio: float) -> bool:
        return ratio >= self.value if self.direction == "at least" else ratio <= self.value


@dataclass(frozen=True, slots=True)
class Compared:
    """A figure beside its aim."""

    what: str
    value: float
    aim: Aim

    @property
    def met(self) -> bool:
        return self.aim.met(self.value)


@dataclass(frozen=True, slots=True)
class Ratio:
    """Interleaved over a rival in one cell. ``aim``: absent where the ratio only informs."""

    what: str
    cell: Cell
    value: float
    aim: Aim | None

    @property
    def met(self) -> bool | None:
        return None if self.aim is None else self.aim.met(self.value)


def figures(run: Run) -> Figures:
    waits = [served.first_token_s for served in run.served]
    tokens = sum(served.tokens for served in run.served)
    return Figures(
        requests=len(run.served),
        tokens=tokens,
        seconds=run.seconds,
        tokens_per_s=tokens / run.seconds,
        first_token_p50_s=percentile(waits, 50),
        first_token_p99_s=percentile(waits, 99),
        switches=run.switching.switches,
        switch_share=run.switching.seconds / run.seconds,
    )


def median(runs: Sequence[Figures]) -> Figures:
    """Returns the median of each figure by itself."""
    return Figures(
        **{
            field.name: statistics.median(getattr(run, field.name) for run in runs)
            for field in fields(Figures)
        }
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """Returns a percentile, interpolated between two values."""
    return float(np.percentile(values, percent))


def ratios(measured: Sequence[Measured]) -> list[Ratio]:
    """Returns the ratios whose two sides were measured, in the order of the cells.

    One expert is compared in two ways: with as many streams, and, where experts alternate, with as many
    streams as each of them has, which makes batches of equal size.
    """
    table = {(each.rival, each.cell): each.median for each in measured}
    found: list[Ratio] = []
    for rival, cell in table:
        if rival == INTERLEAVED and cell.experts > 1:
            found += _of_cell(table, cell)
    return found


def _of_cell(table: Mapping[tuple[str, Cell], Figures], cell: Cell) -> list[Ratio]:
    ours = table[INTERLEAVED, cell]
    found = []

    def compare(rival: str, of: Cell, what: str, aim: Aim | None, figure: str = "tokens_per_s") -> None:
        theirs = table.get((rival, of))
        if theirs is not None:
            found.append(Ratio(what, cell, getattr(ours, figure) / getattr(theirs, figure), aim))

    compare(SWAPPING, cell, f"tokens/s to {SWAPPING}", Aim("at least", 1.0))
    compare(SWAPPING, cell, f"p99 first token to {SWAPPING}", Aim("at most", 0.2), "first_token_p99_s")
    compare(SLEEPING, cell, f"tokens/s to {SLEEPING}", Aim("at least", 2.0))
    compare(PROCESSES, cell, f"tokens/s to {PROCESSES}", Aim("at least", 3.0))
    compare(KVCACHED, cell, f"tokens/s to {KVCACHED}", None)
    compare(KVCACHED, cell, f"p99 first token to {KVCACHED}", None, "first_token_p99_s")
    compare(LLAMA_CPP, cell, f"tokens/s to {LLAMA_CPP}", Aim("at least", 3.0))
    alone = Cell("alternating", 1, cell.streams)
    compare(INTERLEAVED, alone, "tokens/s to one expert, same streams", None)
    if cell.kind == "alternating":
        batch = Cell("alternating", 1, share(cell.streams, cell.experts))
        compare(INTERLEAVED, batch, "tokens/s to one expert, same batches", Aim("at least", 0.85))
    return found
