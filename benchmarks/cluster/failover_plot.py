"""The plot of a node's loss in ``coe bench cluster`` as a PNG file: how long each request took."""

from pathlib import Path

from benchmarks.cluster.measure import Failover
from server.cli.tiers.simulation_plot import matplotlib
from server.config.settings import SettingsError

AIM_S = 2.0
"""Seconds after the loss from which on requests should take as long as before."""


def save(lost: Failover, path: Path) -> None:
    """Raises SettingsError where matplotlib is missing or the file cannot be written."""
    figure = matplotlib()(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(*zip(*((at, took * 1e3) for at, took in lost.timeline), strict=True), ".", markersize=4)
    axes.axvline(0, color="red", label="SIGKILL of the node that computes")
    axes.axvline(AIM_S, color="grey", linestyle=":", label=f"aim: as before from {AIM_S:g} s on")
    axes.axhline(lost.usual_ms, color="grey", linestyle="--", label="the slowest before")
    axes.set_xlabel("begin of the request, seconds after the loss")
    axes.set_ylabel("time until its whole answer [ms]")
    axes.set_yscale("log")
    axes.set_title(f"{lost.requests} requests, {lost.failed} failed, as before after {lost.normal_s:.2f} s")
    axes.legend(loc="upper left", fontsize=8)
    try:
        figure.savefig(path, format="png", dpi=110)
    except OSError as error:
        raise SettingsError(f"--plot {path}: {error.strerror}") from error
