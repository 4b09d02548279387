"""The report of ``coe bench switch`` as tables for people."""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from benchmarks.switch.report import Compared, Report, Row
from server.cli.tables import table

WIDTH = 100
"""Columns the widest table wants."""


def show(report: Report, console: Console | None = None) -> None:
    """Prints them, in lines of full length also where they go to a file."""
    console = console or Console(width=max(WIDTH, Console().width))
    console.print(_rows(report))
    console.print(_compared(report))
    for line in _lines(report):
        console.print(line, highlight=False)


def _rows(report: Report) -> Table:
    numbers = ("median ms", "min ms", "max ms", "MB", "GB/s")
    shown = table(
        "way",
        *numbers,
        numbers=numbers,
        title=f"{report.family} ({report.mode}, {report.dtype}), {report.cores} cores, load average "
        f"{report.load_average:.2f} at the start; medians of {report.runs}",
    )
    for row in report.rows:
        shown.add_row(*_row(row))
    return shown


def _row(row: Row) -> Iterator[str]:
    yield row.name
    for seconds in (row.median, min(row.seconds), max(row.seconds)):
        yield f"{1e3 * seconds:.1f}"
    yield f"{row.bytes / 1e6:.0f}" if row.bytes else "-"
    yield f"{row.bytes_per_second / 1e9:.2f}" if row.bytes_per_second else "-"


def _compared(report: Report) -> Table:
    title = "beside the machine's limits, as ratios of bandwidths (* misses the aim)"
    shown = table("figure", "value", "aim", numbers=("value", "aim"), title=title)
    for each in report.compared:
        aim = f"{each.aim.direction} {each.aim.value:g}" if each.aim else "-"
        shown.add_row(each.what, _value(each), aim)
    return shown


def _value(each: Compared) -> str:
    if each.value is None:
        return "not measured"
    return f"{each.value:.2f}{'*' if each.met is False else ''}"


def _lines(report: Report) -> Iterator[str]:
    for name, reason in report.not_measured.items():
        yield f"not measured: {name}: {reason}"
    if report.still_cached:
        yield f"up to {report.still_cached:,} bytes stayed in the page cache when it was dropped"
