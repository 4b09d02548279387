"""The simulated cluster, and its command."""

import json
import random
from pathlib import Path

import pytest

from cluster.choice import Candidate, in_order
from server.cli.main import main

SMALL = [
    *("--nodes", "12", "--experts", "120", "--rate", "20"),
    *("--seconds", "40", "--warm-up", "40", "--losses", "6"),
]


def test_the_placement_that_serves_waits_and_moves_less_than_its_rivals_and_the_same_each_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def figures() -> dict[str, dict[str, float]]:
        out = tmp_path / "out.json"
        assert main(["cluster", "simulate", *SMALL, "--json", str(out)]) == 0
        found: dict[str, dict[str, float]] = json.loads(out.read_text())["placements"]
        return found

    first = figures()
    ours, rivals = first["ours"], (first["random"], first["consistent-hash"])
    assert all(ours["requests"] == rival["requests"] > 500 for rival in rivals)
    assert all(ours["wait_p99_s"] < rival["wait_p99_s"] for rival in rivals)
    assert all(ours["peer_bytes"] + ours["disk_bytes"] < rival["peer_bytes"] for rival in rivals)
    assert "consistent-hash" in capsys.readouterr().out
    again = figures()
    for found in (first, again):
        for name in ("event_us_mean", "event_us_p99", "event_us_most"):
            found["ours"].pop(name)
    assert first == again


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--rate", "9000"], "9000 requests/s are more than 12 nodes can answer, 384: lower --rate"),
        (["--device", "1GB"], "no expert fits on a node's device: give it more with --device"),
        (["--nodes", "0"], "'0' is not a whole number from 1"),
    ],
)
def test_what_cannot_be_simulated_is_one_line(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(["cluster", "simulate", *SMALL, *arguments])
    except SystemExit as error:
        status = error.code  # type: ignore[assignment]
    assert status != 0
    assert says in capsys.readouterr().err


def test_a_log_that_is_none_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log").write_text("{}\n")
    assert main(["cluster", "replay", str(tmp_path / "log")]) == 1
    assert "line 1: not the beginning of an event log" in capsys.readouterr().err


def test_a_simulated_placement_is_recorded_and_replays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*SMALL, "--placement", "ours"]
    assert main(["cluster", "simulate", *arguments, "--event-log", str(tmp_path / "log")]) == 0
    assert main(["cluster", "replay", str(tmp_path / "log")]) == 0
    assert "events led to the recorded actions" in capsys.readouterr().out
    assert main(["cluster", "simulate", *arguments, "--event-log", "/dev/full"]) == 1
    assert "/dev/full" in capsys.readouterr().err


def test_of_equal_nodes_the_better_of_two_drawn_is_asked_first_and_the_others_by_their_scores() -> None:

    nodes = [Candidate(f"n{number}", 0.0, 0.001 * number) for number in range(8)]
    far = [Candidate("host", 1.0, 0.0), Candidate("disk", 9.0, 0.0)]
    firsts = set()
    for seed in range(60):
        ranked = in_order([*far, *nodes], random.Random(seed))
        firsts.add(ranked[0].node)
        assert [each.node for each in ranked[-2:]] == ["host", "disk"]
        assert len({each.node for each in ranked}) == 10
    assert {"n0", "n1", "n2"} < firsts
    assert "n7" not in firsts, "the worse of two is never first"


def test_a_conversation_stays_with_its_node_unless_another_is_quicker_by_much() -> None:

    chance = random.Random(0)
    stays = [Candidate("a", 0.0, 0.0), Candidate("b", 0.0, 0.1, affine=True)]
    assert in_order(stays, chance)[0].node == "b"
    leaves = [Candidate("a", 0.0, 0.0), Candidate("b", 0.0, 0.5, affine=True)]
    assert in_order(leaves, chance)[0].node == "a"
