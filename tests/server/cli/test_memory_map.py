"""``coe router map --trace``: the best map for a machine and its traffic, by simulation."""

import json
import random
from pathlib import Path

import pytest

from memory_tiers.simulator.profiles import Profile
from memory_tiers.simulator.trace import Request
from router.artifacts.artifact import Artifact
from router.errors import MappingError
from router.mapping.milp import Budgets
from server.cli.main import main
from server.planning.memory_map import (
    Machine,
    SimulatedMap,
    best_within,
    candidates,
    rows_of,
    simulated,
    surface,
)
from tests.router.training.test_training import solved

GB = 10**9


def profile(device_gb: float) -> Profile:
    return Profile.model_validate(
        {
            "name": "small",
            "device": int(device_gb * GB),
            "host": 100 * GB,
            "link_bytes_per_s": 2 * GB,
            "disk_bytes_per_s": GB,
            "memory_bytes_per_s": 200 * GB,
        }
    )


def trace(count: int = 200) -> list[Request]:
    draw, at, made = random.Random(1), 0.0, []
    for _ in range(count):
        at += draw.expovariate(0.5)
        made.append(Request(at, "any"))
    return made


def maps(device_gb: float) -> list[SimulatedMap]:
    table = solved().artifact.scores
    assert table is not None
    machine, mapping = Machine(profile(device_gb)), dict(solved().artifact.mapping.experts)
    asked = trace()
    rows = rows_of(asked, table, mapping, seed=0)
    return simulated(candidates(table, Budgets(), {}), table, machine, asked, rows)


def test_where_all_experts_fit_the_best_map_never_waits_and_is_chosen() -> None:
    best = best_within(maps(device_gb=40), most_wait_s=0.5)
    assert best.solution.kept == ("chat", "chef", "skipper")
    assert best.figures.moves == 0


def test_where_one_large_expert_fits_a_bound_of_the_wait_keeps_fewer() -> None:
    found = maps(device_gb=17)
    free, bounded = best_within(found, None), best_within(found, most_wait_s=0.5)
    assert free.solution.kept == ("chat", "chef", "skipper")
    assert free.figures.wait_s.p99 > 5
    assert len({"chef", "skipper"} & {*bounded.solution.kept}) == 1
    assert bounded.solution.score < free.solution.score
    with pytest.raises(MappingError, match="the shortest is"):
        best_within([free], most_wait_s=0.5)


def test_no_map_of_the_surface_is_beaten_by_another() -> None:
    shown = surface(maps(device_gb=17))
    waits = [each.figures.wait_s.p99 for each in shown]
    assert len(shown) >= 2
    assert not any(one.is_better_than(other) for one in shown for other in shown)
    assert min(waits) < 0.5 < max(waits)


def test_requests_for_a_known_expert_are_of_the_rows_that_it_had() -> None:
    table = solved().artifact.scores
    assert table is not None
    cooks = {"cooking": "chef", "sailing": "skipper"}
    mapping = {row: cooks.get(row.partition("/")[0], "chat") for row in table.categories}
    rows = rows_of([Request(0.0, "chef")] * 20, table, mapping, seed=3)
    assert {row.partition("/")[0] for row in rows} == {"cooking"}


def test_the_verb_prints_the_surface_and_writes_the_map(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    solved().artifact.write(tmp_path / "artifact")
    (tmp_path / "profile.json").write_text(profile(17).model_dump_json())
    (tmp_path / "trace.jsonl").write_text(
        "\n".join(json.dumps({"at": each.at, "expert": each.expert}) for each in trace())
    )
    command = ["router", "map", "--artifact", str(tmp_path / "artifact"), "--out", str(tmp_path / "out")]
    memory = ["--trace", str(tmp_path / "trace.jsonl"), "--profile", str(tmp_path / "profile.json")]
    assert main([*command, *memory, "--max-wait", "0.5", "--json", str(tmp_path / "maps.json")]) == 0
    said = capsys.readouterr().out
    assert said.count("\n* ") <= 1
    assert "p99 wait" in said
    kept = Artifact.read(tmp_path / "out").mapping.names()
    assert len({"chef", "skipper"} & {*kept}) == 1
    figures = json.loads((tmp_path / "maps.json").read_text())["maps"]
    assert {"figures", "map"} == figures[0].keys()
    surface = ["router", "frontier", "--artifact", str(tmp_path / "artifact"), *memory]
    assert main([*surface, "--json", str(tmp_path / "surface.json")]) == 0
    assert json.loads((tmp_path / "surface.json").read_text())["maps"] == figures
    waits = [each["figures"]["wait_s"]["p99"] for each in figures]
    assert main([*surface, "--max-wait", "0.5", "--json", str(tmp_path / "surface.json")]) == 0
    quick = json.loads((tmp_path / "surface.json").read_text())["maps"]
    assert len(quick) == sum(wait <= 0.5 for wait in waits) < len(waits)
    assert main([*surface, "--over", "total"]) == 1
    assert "do not go with --trace" in capsys.readouterr().err
    assert main([*command, "--max-wait", "0.5"]) == 1
    assert "need --trace" in capsys.readouterr().err
