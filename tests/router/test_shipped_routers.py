"""The routers that ship: their maps, and what their quick stage leaves to the other."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from router.artifacts.artifact import Artifact
from router.embedders.registry import embedder_of
from router.router import Router
from router.settings import EMBEDDED, FIVE_EXPERTS
from server.cli.main import main
from server.config.settings import load
from server.routing.catalog import compositions_of, load_routers

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
ODD = [
    "Mennyi a kör területe, ha a sugara 3?",
    "フランスの首都はどこですか。",
    "ما هي عاصمة فرنسا؟",
    "asdf qwer zxcv uiop",
    "¯\\_(ツ)_/¯ ¯\\_(ツ)_/¯",
    "{{{{ %%%% ]]]] <<<<",
    "lorem ipsum dolor sit amet consectetur",
    "hello",
]
"""Prompts of kinds that nothing was trained on."""


@pytest.mark.parametrize("budget", [15.0, 31.0, 49.0])
def test_the_papers_five_are_mapped_within_any_budget_out_of_the_box(budget: float) -> None:
    composition = compositions_of(load(CONFIGS / "five_experts.yaml"))["coe"].under(budget)
    active = composition.router.artifact.active_parameters
    assert active is not None
    assert 0.97 * budget < active <= budget * (1 + 1e-6)
    assert composition.router.artifact.mapping["general"] == "gemma-2-27b"


def test_the_papers_five_answer_in_one_step_within_a_budget() -> None:
    under = Router.load(FIVE_EXPERTS).under(31.0, steps="one")
    assert under.artifact.active_parameters == pytest.approx(31, rel=0.01)
    decision = under.decide("Prove that every bounded monotone sequence of real numbers converges.")
    assert under.artifact.scores is not None
    assert decision.expected.keys() == {*under.artifact.scores.experts}


def test_the_total_budget_decides_how_many_embedded_experts_are_kept(tmp_path: Path) -> None:
    text = (
        (CONFIGS / "embedded.yaml")
        .read_text(encoding="utf-8")
        .replace("total_params: 673M", "total_params: 404M")
    )
    (tmp_path / "smollm2_tools.jinja").write_text("")
    (tmp_path / "three.yaml").write_text(text)
    assert len(load_routers(load(CONFIGS / "embedded.yaml"))["coe"].experts) == 5
    assert len(load_routers(load(tmp_path / "three.yaml"))["coe"].experts) == 3


@cache
def pair() -> tuple[Router, Router]:
    """The embedded router, and the same without its quick stage."""
    artifact = Artifact.read(EMBEDDED)
    embedder = embedder_of(artifact.embedder)
    return Router(artifact, embedder), Router(replace(artifact, quick=None, clusters=None), embedder)


@pytest.mark.parametrize("prompt", ODD)
def test_a_prompt_of_a_kind_never_seen_goes_where_it_goes_without_a_quick_stage(prompt: str) -> None:
    cascade, alone = pair()
    assert cascade.decide(prompt).category == alone.decide(prompt).category == "general"


def test_the_artifacts_say_what_their_quick_stage_is_measured_to_cost() -> None:
    for folder in (EMBEDDED, FIVE_EXPERTS):
        quick = Artifact.read(folder).quick
        assert quick is not None
        assert quick.difference[1] > -0.25


def test_the_command_explains_a_row_of_the_papers_five(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["route", "--config", str(CONFIGS / "five_experts.yaml"), "--explain", "Why is the sky blue?"]
    assert main([*command, "--composition", "coe:15B"]) == 0
    said = capsys.readouterr().out
    assert said.count("\nscore ") == 5
    assert main([*command, "--composition", "coe:1B"]) == 1
    assert "the smallest feasible one is" in capsys.readouterr().err
