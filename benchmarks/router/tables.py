"""The report of ``coe bench router`` as tables for people."""

from rich.console import Console
from rich.table import Table

from benchmarks.router.report import Report, milliseconds
from server.cli.tables import table

WIDTH = 140
"""Columns the widest table wants."""


def show(report: Report, console: Console | None = None) -> None:
    """Prints them, in lines of full length also where they go to a file."""
    console = console or Console(width=max(WIDTH, Console().width))
    console.print(_latencies(report))
    console.print(_batches(report))
    console.print(_compared(report))


def _latencies(report: Report) -> Table:
    parts = ("decision", "mean", "wall clock", "embedding", "the rest", "limit")
    numbers = ("rows", "tokens", *parts, "ratio")
    shown = table(
        "embedder",
        *numbers,
        numbers=numbers,
        title=f"ms of a decision on one of {report.cores} cores, p50 / p99 of {report.decisions}; "
        f"load average {report.load_average:.2f} at the start",
    )
    for row in report.rows:
        measured = (row.decision, row.wall, row.embedding, row.rest, row.limit)
        times = (f"{milliseconds(part, 50):.2f} / {milliseconds(part, 99):.2f}" for part in measured)
        decision, *others = times
        figures = (decision, f"{row.mean_ms:.2f}", *others, f"{row.ratio:.2f}")
        shown.add_row(row.embedder, f"{row.rows:,}", str(row.tokens), *figures)
    return shown


def _batches(report: Report) -> Table:
    title = f"decisions/s of one core, batched, {report.batch_tokens} tokens each"
    numbers = ("rows", "decisions/s", "limit", "of the limit")
    shown = table("embedder", *numbers, numbers=numbers, title=title)
    for batch in report.batches:
        figures = (f"{batch.per_second:,.0f}", f"{batch.limit_per_second:,.0f}", f"{batch.ratio:.2f}")
        shown.add_row(batch.embedder, f"{batch.rows:,}", *figures)
    return shown


def _compared(report: Report) -> Table:
    title = "the artifact's own beside its aims (* misses the aim)"
    shown = table("figure", "value", "aim", numbers=("value", "aim"), title=title)
    for each in report.compared:
        value = f"{each.value:,.2f}{'' if each.met else '*'}"
        shown.add_row(each.what, value, f"{each.aim.direction} {each.aim.value:g}")
    return shown
