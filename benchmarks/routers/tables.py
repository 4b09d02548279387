"""The report of ``coe bench routers`` as tables for people."""

from rich.console import Console
from rich.table import Table

from benchmarks.routers.standings import Report, Standing
from router.mapping.metrics import Estimate
from server.cli.tables import table

WIDTH = 210
"""Columns the widest table wants."""


def show(report: Report, console: Console | None = None) -> None:
    """Prints them, in lines of full length also where they go to a file."""
    console = console or Console(width=max(WIDTH, Console().width))
    console.print(_singles(report))
    console.print(_areas(report))
    console.print(_gains(report))
    for standing in report.standings:
        console.print(f"{standing.name}: {standing.settings}", markup=False, soft_wrap=True)


def _singles(report: Report) -> Table:
    title = f"single experts on {report.test_prompts:,} test prompts"
    shown = table("expert", "billions", "score", numbers=("billions", "score"), title=title)
    for name, point in zip(report.experts, report.singles, strict=True):
        shown.add_row(name, f"{point.active:g}", f"{point.score:.2f}")
    return shown


def _areas(report: Report) -> Table:
    cheapest, dearest = report.singles[0].active, report.singles[-1].active
    numbers = ("area, points", "blind mix 0, oracle 1", "behind the first, points")
    title = (
        f"mean score from {cheapest:g} B to {dearest:g} B active, trained on {report.train_prompts:,} "
        f"prompts; 95 % by {report.resamples:,} paired resamples"
    )
    shown = table("router", *numbers, numbers=numbers, title=title)
    shown.add_row("blind mix (floor)", _points(report.blind), "0", "")
    for standing in report.standings:
        behind = "" if standing is report.standings[0] else _points(standing.behind, signed=True)
        part = standing.part_of_oracle
        shown.add_row(
            standing.name,
            _points(standing.area),
            f"{part.value:.3f} [{part.low:.3f}, {part.high:.3f}]",
            behind,
        )
    shown.add_row("per-prompt oracle (ceiling)", _points(report.oracle), "1", "")
    return shown


def _gains(report: Report) -> Table:
    columns = [f"{budget:g} B" for budget in report.budgets]
    title = "points over the blind mix, at most so many billions active on average"
    shown = table("router", *columns, numbers=columns, title=title)
    shown.add_row("blind mix scores", *(f"{score.value:.2f}" for score in report.blind_scores))
    for standing in report.standings:
        shown.add_row(standing.name, *_gains_of(standing))
    return shown


def _gains_of(standing: Standing) -> list[str]:
    return [_points(gain, signed=True) for gain in standing.gains]


def _points(estimate: Estimate, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"{estimate.value:{sign}.2f} [{estimate.low:{sign}.2f}, {estimate.high:{sign}.2f}]"
