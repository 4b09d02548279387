"""The report of ``coe bench gateway`` as tables for people."""

from rich.console import Console
from rich.table import Table

from benchmarks.gateway.load import GENERATOR, Latency
from benchmarks.gateway.report import Added, Capacity, Report
from server.cli.tables import table

WIDTH = 130
"""Columns the widest table wants."""


def show(report: Report, console: Console | None = None) -> None:
    """Prints them, in lines of full length also where they go to a file."""
    console = console or Console(width=max(WIDTH, Console().width))
    console.print(_capacities(report))
    console.print(_added(report))
    console.print(_compared(report))
    for missing in report.not_measured:
        console.print(f"not measured: {missing.subject}: {missing.reason}", highlight=False)


def _capacities(report: Report) -> Table:
    setting, plan = report.setting, report.plan
    cores = ("proxy", "engine", "generator")
    numbers = ("streams", "requests/s", "of a core", "p50 ms", *cores, "failed")
    shown = table(
        "",
        "answers",
        *numbers,
        numbers=numbers,
        title=f"closed loop, {plan.tokens} tokens; {setting.cores} cores: proxy on {setting.pinned.proxy}, "
        f"engine on {setting.pinned.upstream}, generator on {setting.pinned.generator}; load average "
        f"{setting.load_average:.2f} at the start; {plan.seconds:g} s, medians of {plan.rounds}",
    )
    for each in report.capacities:
        shown.add_row(*_capacity(each))
    return shown


def _capacity(each: Capacity) -> tuple[str, ...]:
    per_core = "-" if each.per_core is None else f"{each.per_core:,.0f}"
    busy = (f"{each.busy(process):.0%}" for process in ("proxy", "engine", GENERATOR))
    figures = (f"{each.per_second:,.0f}", per_core, f"{each.last_p50_ms:.2f}", *busy, str(each.failures))
    return each.subject, each.kind, str(each.streams), *figures


def _added(report: Report) -> Table:
    columns = (
        "",
        "answers",
        "rate/s",
        "first byte",
        "last byte",
        "direct, last byte",
        "sent late p99",
        "failed",
    )
    title = f"open loop at {report.plan.share:.0%} of each one's most: milliseconds added, p50 / p99"
    shown = table(*columns, numbers=columns[2:], title=title)
    for each in report.added:
        shown.add_row(*_row(each))
    return shown


def _row(each: Added) -> tuple[str, ...]:
    latencies = map(_both, (each.first, each.last, each.without))
    rest = f"{each.late_ms:.2f}", str(each.failures)
    return each.subject, each.kind, f"{each.rate:,.0f}", *latencies, *rest


def _both(latency: Latency) -> str:
    return f"{latency.p50:.2f} / {latency.p99:.2f}"


def _compared(report: Report) -> Table:
    title = "the gateway with an explicit model beside its aims (* misses the aim)"
    shown = table("figure", "value", "aim", numbers=("value", "aim"), title=title)
    for each in report.compared:
        value = f"{each.value:,.2f}{'' if each.met else '*'}"
        shown.add_row(each.what, value, f"{each.aim.direction} {each.aim.value:g}")
    return shown
