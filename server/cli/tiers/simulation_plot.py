"""The plot of ``coe tiers simulate`` as a PNG file, by matplotlib (optional extra ``plot``)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from memory_tiers.simulator.comparison import Comparison
from memory_tiers.simulator.figures import Figures
from server.config.settings import SettingsError

PANELS: dict[str, Callable[[Figures], float]] = {
    "latency p99 [s]": lambda found: found.latency_s.p99,
    "hit rate [%]": lambda found: 100 * found.hit_rate,
    "moves to the device": lambda found: found.moves,
    "switches": lambda found: found.switches,
}


def matplotlib() -> Any:
    """Returns matplotlib's Figure class. Raises SettingsError where it is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SettingsError("--plot needs matplotlib: pip install 'composition-of-experts[plot]'") from error
    return Figure


def save(comparison: Comparison, path: Path) -> None:
    """Writes the plot to a file. Raises SettingsError when it cannot be written."""
    scenario = comparison.scenario
    figure = matplotlib()(figsize=(12, 3.4), layout="constrained")
    figure.suptitle(
        f"{scenario.profile.name}, {len(scenario.experts):,} experts of {scenario.expert_bytes / 1e9:g} GB, "
        f"{scenario.device_fits} fit on the device"
    )
    for axes, (title, value) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        found = comparison.figures
        bars = axes.bar(list(found), [value(each) for each in found.values()])
        axes.margins(y=0.12)
        axes.bar_label(bars, fmt="{:,.4g}")
        axes.set_title(title)
    try:
        figure.savefig(path, format="png", dpi=150)
    except OSError as error:
        raise SettingsError(f"--plot {path}: {error.strerror}") from error
