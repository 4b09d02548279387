"""The report of ``coe bench engine`` as tables for people."""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from benchmarks.engine.figures import Measured, Ratio
from benchmarks.engine.report import Report
from server.cli.tables import table

WIDTH = 130
"""Columns the widest table wants."""


def show(report: Report, console: Console | None = None) -> None:
    """Prints them, in lines of full length also where they go to a file."""
    console = console or Console(width=max(WIDTH, Console().width))
    console.print(_figures(report))
    if report.ratios:
        console.print(_ratios(report))
    for line in _lines(report):
        console.print(line, highlight=False)


def _figures(report: Report) -> Table:
    setting, plan = report.setting, report.plan
    latencies = ("first token p50 s", "p99 s")
    numbers = ("experts", "streams", "requests", "tokens/s", *latencies, "switches", "of the time")
    shown = table(
        "rival",
        "workload",
        *numbers,
        numbers=numbers,
        title=f"{setting.family} ({setting.mode}, {setting.dtype}), {setting.cores} cores, load average "
        f"{setting.load_average:.2f} at the start; answers of {plan.tokens} tokens, {plan.requests} for each "
        f"stream, bursts of {plan.burst}; medians of {plan.repeat}",
    )
    for measured in report.measured:
        shown.add_row(*_row(measured))
    return shown


def _row(measured: Measured) -> Iterator[str]:
    cell, median = measured.cell, measured.median
    yield measured.rival
    yield cell.kind if cell.experts > 1 else "one expert"
    yield str(cell.experts)
    yield str(cell.streams)
    yield f"{median.requests:.0f}"
    yield f"{median.tokens_per_s:.1f}"
    yield f"{median.first_token_p50_s:.2f}"
    yield f"{median.first_token_p99_s:.2f}"
    yield f"{median.switches:.0f}"
    yield f"{median.switch_share:.1%}"


def _ratios(report: Report) -> Table:
    """One line for each comparison, one column for each cell."""
    cells = list(dict.fromkeys(ratio.cell for ratio in report.ratios))
    by_place = {(ratio.what, ratio.cell): ratio for ratio in report.ratios}
    places = [f"{cell.kind}\n{cell.experts} x {cell.streams}" for cell in cells]
    title = "interleaved, as a ratio to the others (* misses the aim)"
    shown = table("ratio of", "aim", *places, numbers=places, title=title)
    for what in dict.fromkeys(ratio.what for ratio in report.ratios):
        found = [by_place.get((what, cell)) for cell in cells]
        aims = [ratio.aim for ratio in found if ratio is not None and ratio.aim is not None]
        aim = aims[0] if aims else None
        shown.add_row(what, f"{aim.direction} {aim.value:g}" if aim else "-", *map(_ratio, found))
    return shown


def _ratio(ratio: Ratio | None) -> str:
    if ratio is None:
        return "-"
    return f"{ratio.value:.2f}{'*' if ratio.met is False else ''}"


def _lines(report: Report) -> Iterator[str]:
    for held in report.held:
        if held.bytes:
            yield f"memory: {held.rival}, {held.experts} experts: {held.bytes / 1e9:.2f} GB"
    if report.setting.repeated:
        yield f"the same files under another name: {', '.join(report.setting.repeated)}"
    for missing in report.not_measured:
        yield f"not measured: {missing.rival}, {missing.experts} experts: {missing.reason}"
