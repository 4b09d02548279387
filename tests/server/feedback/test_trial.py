"""A map that is tried on a share of the conversations, and what clients say of it."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from router.artifacts.artifact import Artifact
from router.artifacts.manifest import TrainingRecord
from router.canary import Canary
from router.composition import Composition
from router.mapping.expert_mapping import ExpertMapping
from router.settings import EMBEDDED, CompositionConfig
from server.cli.main import main
from server.config.settings import Settings, SettingsError
from server.feedback.records import Decided, FeedbackKey, Kept, Said
from server.feedback.store import FeedbackStore
from server.feedback.trial import trial_of
from server.routing.catalog import compositions_of
from tests.router.training.test_training import given
from tests.server.conftest import ROOT, Serving

MATHS = "What is the integral of x^2?"
LAW = "Is an oral contract enforceable in court?"


def cooked(number: int) -> list[dict[str, Any]]:
    return [{"role": "user", "content": f"whisk butter and flour, then roast {number}"}]


def tried(share: float) -> Composition:
    mapping = ExpertMapping.given(
        {"general": "chat", "cooking": "skipper", "sailing": "skipper"}, given().categories
    )
    return Composition(given(), canary=Canary(mapping, share))


def test_a_share_of_the_conversations_is_answered_by_the_map_that_is_tried() -> None:
    choices = [tried(0.25).choose(cooked(number)) for number in range(400)]
    by = [choice.by for choice in choices]
    assert 70 < by.count("canary") < 130
    assert {choice.decision.expert for choice in choices if choice.by == "canary"} == {"skipper"}
    assert {choice.decision.expert for choice in choices if choice.by == "map"} == {"chef"}
    assert {(choice.by, choice.arm) for choice in choices} == {("canary", "canary"), ("map", "incumbent")}


def test_a_conversation_stays_in_its_arm() -> None:
    composition = tried(0.5)
    for number in range(20):
        first = composition.choose(cooked(number))
        later = composition.choose(
            [*cooked(number), {"role": "user", "content": "roast the butter with flour and sugar"}]
        )
        assert later.arm == first.arm


def test_where_the_maps_agree_there_is_no_trial_and_a_share_of_nothing_only_counts() -> None:
    sailing = [{"role": "user", "content": "anchor the rudder at the harbour"}]
    assert tried(1.0).choose(sailing).arm == ""
    shadow = tried(0.0).choose(cooked(1))
    assert (shadow.by, shadow.arm, shadow.decision.expert) == ("map", "incumbent", "chef")


def kept(expert: str, score: float | None, row: str = "law") -> Kept:
    return Kept("n", 1.0, "coe", "law", False, expert, row, None, b"", "200", score, None)


def verdict(canary: list[float], incumbent: list[float], margin: float = 1.0) -> str:
    records = [kept("new", score) for score in canary] + [kept("old", score) for score in incumbent]
    return trial_of(records, "coe", {"law": "old"}, {"law": "new"}).verdict(100, margin)


def test_the_rule_promotes_what_is_not_worse_and_takes_back_what_is() -> None:
    good, bad, even = [1.0] * 180 + [0.0] * 20, [1.0] * 100 + [0.0] * 100, [1.0] * 140 + [0.0] * 60
    assert verdict(good, bad) == "promote"
    assert verdict(bad, good) == "take back"
    assert verdict(even, even) == "wait"
    assert verdict(even, even, margin=15) == "promote"
    assert verdict(good[:90], bad) == "wait"
    assert verdict([], bad) == "wait"


def test_only_decisions_at_rows_that_differ_and_by_the_two_experts_are_compared() -> None:
    records = [kept("new", 1.0), kept("third", 1.0), kept("old", 0.0), kept("old", 1.0, row="math")]
    trial = trial_of(records, "coe", {"law": "old", "math": "old"}, {"law": "new", "math": "old"})
    assert (trial.canary.decisions, trial.incumbent.decisions) == (1, 1)


def canary_of(settings: Settings, serves: Path, canary: Path, share: float) -> Settings:
    tree = {"artifact": serves, "canary": {"artifact": canary, "share": share}}
    return settings.model_copy(update={"compositions": {"coe": CompositionConfig.model_validate(tree)}})


def test_a_canary_of_another_training_is_refused(settings: Settings, tmp_path: Path) -> None:
    embedded = Artifact.read(EMBEDDED)
    other = replace(embedded, training=replace_training(embedded))
    other.write(tmp_path)
    with pytest.raises(SettingsError, match=r"^compositions\.coe\.canary: the canary was trained otherwise"):
        compositions_of(canary_of(settings, EMBEDDED, tmp_path, 0.1))


def replace_training(artifact: Artifact) -> TrainingRecord:
    return artifact.training.model_copy(update={"seed": 99})


def artifacts(folder: Path) -> tuple[Path, Path]:
    """The embedded one, and one that sends mathematics to ``law``."""
    artifact = Artifact.read(EMBEDDED)
    moved = replace(artifact.mapping, experts={**artifact.mapping.experts, "math": "law"})
    artifact.write(folder / "serves")
    replace(artifact, mapping=moved).write(folder / "canary")
    return folder / "serves", folder / "canary"


async def test_a_gateway_answers_by_the_map_that_is_tried_and_says_so(
    serving: Serving, settings: Settings, tmp_path: Path
) -> None:
    async with serving(canary_of(settings, *artifacts(tmp_path), share=1.0)) as gateway:
        for prompt, by in ((MATHS, "canary"), (LAW, "map")):
            answer = await gateway.post(model="coe", messages=[{"role": "user", "content": prompt}])
            assert (answer.headers["x-coe-routed-by"], answer.headers["x-coe-expert"]) == (by, "law")
        metrics = (await gateway.http.get("/metrics")).text
        assert 'coe_route_trials_total{arm="canary",composition="coe"} 1.0' in metrics


def test_the_command_compares_and_promotes_what_is_tried(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    serves, canary = artifacts(tmp_path)
    file = tmp_path / "feedback.sqlite"
    store = FeedbackStore.open(file, create=True)
    for number in range(400):
        key = FeedbackKey(str(number), b"me")
        expert = "law" if number % 2 else "math"
        store.write(
            [
                Decided(key, time.time(), "coe", "math", "math", 0.9, False, expert, "?"),
                Said(key, float(expert == "law" or number % 4 == 0), None),
            ],
            text=False,
        )
    store.close()
    tree = yaml.safe_load((ROOT / "configs" / "embedded.yaml").read_text())
    tree["compositions"]["coe"] = {"artifact": str(serves), "canary": {"artifact": str(canary), "share": 0.5}}
    tree["feedback"] = {"consent": True, "file": str(file)}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
    (tmp_path / "smollm2_tools.jinja").write_text("")
    command = ["feedback", "trial", "--config", str(tmp_path / "config.yaml")]
    assert main([*command, "--least", "300"]) == 0
    assert "verdict      wait" in capsys.readouterr().out
    assert Artifact.read(serves).mapping["math"] == "math"
    assert main([*command, "--apply"]) == 0
    said = capsys.readouterr().out
    assert "the maps differ at 1 of 18 rows" in said
    assert "shadow       it would change 100.0% of 400 decisions\n             math -> law: 400\n" in said
    assert "canary       200 decisions, mean score 100.0 of 200" in said
    assert "verdict      promote" in said
    assert Artifact.read(serves).mapping["math"] == "law"
    assert main([*command, "--composition", "nope"]) == 1
    assert "no composition 'nope'" in capsys.readouterr().err


def test_a_map_is_solved_with_the_shares_of_kept_decisions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = FeedbackStore.open(tmp_path / "feedback.sqlite", create=True)
    for number in range(900):
        key, row = FeedbackKey(str(number), b"me"), "math" if number else "nothing of the kind"
        store.write([Decided(key, 1.0, "coe", row, row, 0.9, False, "math", "?")], text=False)
    store.close()
    command = ["router", "map", "--artifact", str(EMBEDDED), "--feedback", str(tmp_path / "feedback.sqlite")]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "899 of 900 decisions are at rows of the scores" in said
    scores = Artifact.read(tmp_path / "out").scores
    assert scores is not None
    assert scores.share_of()["math"] > 0.7
    assert main([*command[:-1], str(tmp_path / "none.sqlite"), "--out", str(tmp_path / "out")]) == 1


async def test_the_drift_of_live_traffic_is_a_metric(serving: Serving, settings: Settings) -> None:
    async with serving(settings) as gateway:
        decision = compositions_of(settings)["coe"].router.decide(MATHS)
        assert "coe_route_drift{" not in (await gateway.http.get("/metrics")).text
        for _ in range(300):
            gateway.services.metrics.decided("coe", decision, "map")
        assert 'coe_route_drift{composition="coe"} 0.9' in (await gateway.http.get("/metrics")).text
