"""``coe tiers simulate`` as a person calls it."""

import json
import sys
from pathlib import Path

import pytest

from server.cli.main import main

SMALL = ("tiers", "simulate", "--profile", "dgx-a100", "--experts", "60", "--requests", "200")


def test_the_figures_of_each_policy_are_written_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, plot = tmp_path / "out.json", tmp_path / "out.png"
    assert main([*SMALL, "--policy", "cost", "fifo", "--json", str(out), "--plot", str(plot)]) == 0
    tree = json.loads(out.read_text())
    assert list(tree["policies"]) == ["cost", "fifo"]
    for figures in tree["policies"].values():
        assert figures["requests"] == 200
        assert {"hit_rate", "moves", "switches", "bytes_moved", "goodput_per_s"} <= set(figures)
        assert set(figures["latency_s"]) == set(figures["wait_s"]) == {"p50", "p99", "max"}
        assert figures["switch_seconds"] == tree["switch_seconds"] == pytest.approx(0.421875)
    assert plot.read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr().out
    assert "a switch takes 31.2 times as long as published, 3.9 times over all 8 links" in shown
    assert "█" in shown


def test_a_trace_from_a_file_brings_its_own_experts(tmp_path: Path) -> None:
    trace, out = tmp_path / "trace", tmp_path / "out.json"
    trace.write_text('{"at": 0, "expert": "law"}\n{"at": 1, "expert": "math"}\n')
    arguments = [*SMALL, "--trace", str(trace), "--json", str(out), "--policy", "lru"]
    assert main(arguments) == 0
    tree = json.loads(out.read_text())
    assert (tree["experts"], tree["policies"]["lru"]["requests"]) == (2, 2)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--profile", "tpu"], "profile tpu: No such file or directory; built in are sn40l"),
        (["--trace", "nothing"], "trace nothing: "),
        (["--policy", "magic"], "policy 'magic' is unknown; there are lru, cost, belady, fifo"),
        (["--expert-size", "large"], "'large' is not a size such as 13.5GB"),
        (["--expert-size", "0"], "'0' is no memory at all"),
        (["--expert-size", "1TB"], "does not fit on dgx-a100's device"),
        (["--experts", "0"], "'0' is not a whole number from 1"),
        (["--rate", "-1"], "'-1' is not a number over 0"),
        (["--rate", "inf"], "'inf' is not a number over 0"),
        (["--links", "9"], "dgx-a100 has 8 links, not 9"),
        (["--json", "/nowhere/out.json"], "there is no folder /nowhere"),
        (["--plot", "/nowhere/out.png"], "there is no folder /nowhere"),
    ],
)
def test_bad_input_is_one_line_and_status_1(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, *arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert says in captured.err
    assert captured.err.count("\n") == 1


def test_a_plot_without_matplotlib_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main([*SMALL, "--plot", str(tmp_path / "out.png")]) == 1
    assert "pip install 'composition-of-experts[plot]'" in capsys.readouterr().err
