import json
import sys
from pathlib import Path

import numpy as np
import pytest

from scripts.measure.plateau import blind, chosen, main, point


def test_a_price_keeps_the_budget_and_buys_where_it_pays_most() -> None:
    draw = np.random.default_rng(0)
    scores, parameters = draw.random((400, 3)), np.array([1.0, 5.0, 20.0])
    for budget in (2.0, 5.0, 8.0):
        experts = chosen(scores, parameters, budget)
        assert budget * 0.95 < parameters[experts].mean() <= budget
    rows, free = np.arange(400), chosen(scores, parameters, 100.0)
    assert (scores[rows, free] == scores.max(axis=1)).all()


def test_the_blind_mix_lies_on_the_best_line_between_two_experts() -> None:
    means, parameters = np.array([0.2, 0.3, 0.8]), np.array([1.0, 5.0, 11.0])
    assert blind(means, parameters, 6.0) == pytest.approx(0.5)
    assert blind(means, parameters, 11.0) == blind(means, parameters, 50.0) == pytest.approx(0.8)


def test_choosing_by_the_grades_themselves_beats_every_mix() -> None:
    grades = np.array([[1.0, 0.0], [0.0, 1.0]] * 50)
    found = point(grades, np.array([1.0, 2.0]), grades.argmax(axis=1))
    assert (found.score.value, found.over_blind.value, found.over_best.value) == (100.0, 50.0, 50.0)


def test_more_knowledge_gains_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw, lines = np.random.default_rng(1), []
    for number in range(240):
        topic, hard = ("soup", "sails")[number % 2], bool(draw.random() < 0.5)
        words = " ".join(draw.choice(["salt", "rope", "pan", "mast", "lid", "keel"], 4))
        scores = {"small": float(not hard), "large": 1.0, "other": float(not hard)}
        lines.append(
            {"id": f"{topic}/{number}", "prompt": f"{topic} {words}", "category": topic, "scores": scores}
        )
    data = tmp_path / "graded.jsonl"
    data.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    out = tmp_path / "plateau.json"
    command = ["plateau", "--data", str(data), "--experts", "small=1B,large=10B", "--budgets", "5.5"]
    monkeypatch.setattr(sys, "argv", [*command, "--json", str(out)])
    assert main() == 0
    found = json.loads(out.read_text())
    told = found.pop("explained")
    assert told["the prompt"]["ease"] < 0.1
    assert told["the prompt and other models' answers"]["ease"] > 0.6
    assert told["its own answers"] == {"ease": 1.0, "advantage": 1.0}
    gains = {name: points[0]["over_blind"]["value"] for name, points in found.items()}
    assert gains["the prompt and other models' answers"] > gains["the prompt"] + 10
    monkeypatch.setattr(sys, "argv", [*command[:4], "nobody=1B", "--json", str(out)])
    assert main() == 1
    assert "no prompt is graded for all" in capsys.readouterr().err
