"""A composition that chooses in one step, through the gateway and by command."""

import json
from pathlib import Path
from typing import Any

import pytest

from router.settings import EMBEDDED, CompositionConfig
from server.cli.main import main
from server.config.settings import Settings, SettingsError
from server.routing.catalog import compositions_of
from tests.router.mapping.hidden_groups import GROUPS, finer
from tests.server.conftest import Serving
from tests.server.live.test_views import told
from tests.server.routing.test_requests import explained, headers

COOKING = " ".join(GROUPS["chef"].split()[:8])
NAMES = {"chat": "general", "chef": "math", "skipper": "law"}


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    finer().artifact.write(tmp_path / "artifact")
    return tmp_path / "artifact"


def composed(settings: Settings, artifact: Path, **more: Any) -> Settings:
    tree = {"artifact": artifact, "experts": NAMES, "steps": "one", **more}
    return settings.model_copy(update={"compositions": {"coe": CompositionConfig.model_validate(tree)}})


async def test_the_prompt_chooses_and_the_answer_says_so(
    serving: Serving, settings: Settings, artifact: Path
) -> None:
    async with serving(composed(settings, artifact, active_params="5200M")) as gateway:
        routed = await headers(gateway, COOKING)
        assert (routed["x-coe-routed-by"], routed["x-coe-expert"]) == ("one-step", "math")
        assert (routed["x-coe-category"], routed["x-coe-cluster"][:7]) == ("chores", "chores/")
        cheap = await headers(gateway, COOKING, model="coe:1B")
        assert (cheap["x-coe-routed-by"], cheap["x-coe-expert"]) == ("budget", "general")
        said = await explained(gateway, COOKING)
        assert said["routed_by"] == "one-step"
        best, *_ = said["decided"]["expected"]
        assert best["expert"] == "math"
        assert best["score"] > 0.7
        (coe,) = (await told(gateway, "compositions"))["compositions"]
        assert coe["steps"] == "one"
        assert coe["in_use"]["active_billion"] <= 5.2
        maps = (await told(gateway, "compositions/coe/frontier"))["maps"]
        assert maps[0]["active_billion"] == pytest.approx(1)


async def test_two_steps_expect_nothing_of_a_prompt_by_itself(
    serving: Serving, settings: Settings, artifact: Path
) -> None:
    async with serving(composed(settings, artifact, steps=None)) as gateway:
        assert (await explained(gateway, COOKING))["decided"]["expected"] is None


def test_what_does_not_go_with_one_step_is_refused(settings: Settings, artifact: Path) -> None:
    wrong: dict[str, dict[str, Any]] = {
        "a canary is a map, and chooses in two steps": {"canary": {"artifact": artifact}},
        "a margin between experts goes with two steps": {"min_margin": 1},
        "cannot choose in one step": {"experts": {}},
    }
    for complaint, more in wrong.items():
        folder = EMBEDDED if "experts" in more else artifact
        with pytest.raises(SettingsError, match=rf"^compositions\.coe.*: .*{complaint}"):
            compositions_of(composed(settings, folder, **more))


def test_an_artifact_of_one_step_may_be_served_in_two(settings: Settings, artifact: Path) -> None:
    finer().under(5.2, steps="one").save(artifact)
    served = {steps: compositions_of(composed(settings, artifact, steps=steps)) for steps in (None, "two")}
    assert served[None]["coe"].router.artifact.steps == "one"
    assert served["two"]["coe"].router.artifact.steps == "two"


def test_commands_make_measure_and_explain_it(
    artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, figures = str(tmp_path / "one"), tmp_path / "figures.json"
    mapped = ["router", "map", "--artifact", str(artifact), "--out", out]
    assert main([*mapped, "--steps", "one", "--active-params", "4B"]) == 0
    assert "points for a billion parameters, in one step\n" in capsys.readouterr().out
    assert main(["route", "--artifact", out, "--explain", COOKING]) == 0
    said = capsys.readouterr().out
    assert "routed by   one-step\n" in said
    assert said.count("\nexpected    ") == 3
    data = tmp_path / "data.jsonl"
    data.write_text(
        "".join(
            json.dumps(
                {
                    "id": name,
                    "prompt": words,
                    "category": "chores",
                    "scores": {"chat": 0, "chef": 1, "skipper": 0},
                }
            )
            + "\n"
            for name, words in GROUPS.items()
        )
    )
    assert main(["router", "evaluate", "--artifact", out, "--data", str(data)]) == 0
    frontier = ["router", "frontier", "--artifact", out, "--data", str(data), "--json", str(figures)]
    assert main(frontier) == 0
    assert all(each["map"]["price"] is not None for each in json.loads(figures.read_text())["maps"])
    capsys.readouterr()
    for wrong, complaint in (
        ([*frontier, "--over", "total"], "goes through maps, which take two steps"),
        ([*mapped, "--steps", "one", "--trace", "x"], "--steps one does not go with --trace"),
        ([*mapped, "--steps", "one", "--min-margin", "1"], "goes with two steps"),
    ):
        assert main(wrong) == 1
        assert complaint in capsys.readouterr().err
    gone = ["router", "remove-expert", "--artifact", out, "--name", "skipper", "--out", out]
    assert main(gone) == 0
    assert "in one step\n" in capsys.readouterr().out
