"""The frontier of a router's maps beside the blind mix, as a PNG file, by matplotlib (extra ``plot``)."""

from collections.abc import Sequence
from pathlib import Path

from router.mapping.evaluation import MapEvaluation
from server.cli.tiers.simulation_plot import matplotlib
from server.config.settings import SettingsError


def save_frontier(frontier: Sequence[MapEvaluation], path: Path) -> None:
    """``frontier``: on the same prompts. Raises SettingsError when the file cannot be written."""
    figure = matplotlib()(figsize=(7, 4.4), layout="constrained")
    axes = figure.add_subplot()
    ordered = sorted(frontier, key=lambda each: each.composition.active)
    active = [each.composition.active for each in ordered]
    scores = [each.composition.score for each in ordered]
    axes.fill_between(active, [each.low for each in scores], [each.high for each in scores], alpha=0.2)
    axes.plot(active, [each.value for each in scores], marker=".", label="composition, 95 %")
    axes.plot(active, [each.blind.score.value for each in ordered], "--", label="blind mix at the same cost")
    for single in ordered[0].singles:
        axes.plot(single.active, single.score.value, "ks", markersize=4)
        axes.annotate(single.name.rpartition("/")[2], (single.active, single.score.value), fontsize=7)
    axes.set_xlabel("active parameters on average [B]")
    axes.set_ylabel("mean grade [points]")
    axes.set_title(f"{ordered[0].prompts} graded prompts")
    axes.legend(loc="lower right")
    try:
        figure.savefig(path, format="png", dpi=150)
    except OSError as error:
        raise SettingsError(f"--plot {path}: {error.strerror}") from error
