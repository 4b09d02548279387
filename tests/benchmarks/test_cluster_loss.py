"""The plot of ``coe bench cluster``."""

from pathlib import Path

from benchmarks.cluster.failover_plot import save
from benchmarks.cluster.measure import Failover


def test_a_nodes_loss_is_drawn(tmp_path: Path) -> None:
    timeline = [(-1.0, 0.05), (0.0, 0.4), (1.0, 0.05)]
    save(Failover(3, 0, 50.0, 100.0, 400.0, 0.4, timeline), tmp_path / "lost.png")
    assert (tmp_path / "lost.png").read_bytes().startswith(b"\x89PNG")
