"""The reports of ``coe bench doubts`` and ``coe bench embedders`` as tables for people."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

import benchmarks.categories.doubts as doubts
import benchmarks.categories.embedders as embedders
from router.mapping.metrics import Estimate

WIDTH = 160
"""Columns the widest table wants."""


def show_doubts(report: doubts.Report, console: Console | None = None) -> None:
    names = list(report.rows[0].alarms)
    table = _table(
        f"AUROC / detected at {100 * doubts.FALSE_ALARMS:.0f} % false alarms / plain prompts then doubted",
        ["left out", "known", "new", *names],
    )
    for row in report.rows:
        figures = (
            f"{each.auroc:.2f} / {100 * each.detected:.0f} / {100 * each.plain:.0f}"
            for each in row.alarms.values()
        )
        table.add_row(row.kind.name, str(row.known), str(row.new), *figures)
    _console(console).print(table)


def show_embedders(report: embedders.Report, console: Console | None = None) -> None:
    part = report.prefix or "a part"
    table = _table(
        f"% of {report.prompts:,} prompts kept apart, with 95 % intervals",
        ["embedder", "classifier", "right", "macro F1", "ECE", f"right of {part}", "right of plain"],
    )
    for row in report.rows:
        table.add_row(
            row.embedder,
            str(row.way),
            _percent(row.accuracy),
            _percent(row.macro_f1),
            f"{100 * row.calibration_error:.1f}",
            _percent(row.part),
            _percent(row.plain),
        )
    console = _console(console)
    console.print(table)
    few = _table("% right from few labels, each draw", ["classifier", "labels", "alone", "spread"])
    for each in report.few:
        few.add_row(each.kind, str(each.labels), _draws(each.alone), _draws(each.spread))
    console.print(few)


def _percent(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    return f"{100 * estimate.value:.1f} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def _draws(shares: Sequence[float]) -> str:
    return ", ".join(f"{100 * share:.1f}" for share in shares)


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title)
    for column in columns:
        table.add_column(
            column, justify="left" if column in ("embedder", "classifier", "left out") else "right"
        )
    return table


def _console(console: Console | None) -> Console:
    return console or Console(width=max(WIDTH, Console().width))
