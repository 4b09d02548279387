"""The plot of ``coe bench routers`` as a PNG file: quality against cost of every contestant."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.routers.curve import Point
from benchmarks.routers.standings import Report
from server.cli.tiers.simulation_plot import matplotlib
from server.config.settings import SettingsError


def save(report: Report, path: Path) -> None:
    """Raises SettingsError where matplotlib is missing or the file cannot be written."""
    figure = matplotlib()(figsize=(9, 6), layout="constrained")
    axes = figure.subplots()
    _line(axes, report.oracle_frontier, "per-prompt oracle", color="grey", linestyle=":")
    _line(axes, report.blind_frontier, "blind mix", color="grey", linestyle="--")
    for standing in report.standings:
        _line(axes, standing.frontier, standing.name)
    middle = (report.singles[0].active + report.singles[-1].active) / 2
    for name, point in zip(report.experts, report.singles, strict=True):
        axes.plot(point.active, point.score, "ko")
        place, alignment = ((5, -10), "left") if point.active < middle else ((-5, -10), "right")
        axes.annotate(
            name.rpartition("/")[2],
            (point.active, point.score),
            place,
            textcoords="offset points",
            ha=alignment,
            fontsize=8,
        )
    scores = [point.score for point in report.singles]
    axes.set_ylim(min(scores) - 1, max(scores) + 4)
    axes.set_xlabel("active parameters on average [billions]")
    axes.set_ylabel(f"mean score of {report.test_prompts:,} test prompts [points]")
    axes.legend()
    try:
        figure.savefig(path, format="png", dpi=150)
    except OSError as error:
        raise SettingsError(f"--plot {path}: {error.strerror}") from error


def _line(axes: Any, points: Sequence[Point], label: str, **style: str) -> None:
    axes.plot([point.active for point in points], [point.score for point in points], label=label, **style)
