"""``coe bench public-routing``: what it reads of a checkout, and what an order of prompts recovers."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.public_routing.gap import recovered
from benchmarks.public_routing.grades import STRONG, WEAK, graded
from router.errors import DatasetError
from server.cli.main import main
from tests.router.mapping.hidden_groups import GROUPS


def checkout(folder: Path) -> Path:
    """One whose strong model is better on the words of ``chef`` alone, in two subjects that say nothing."""
    evals, draw = folder / "routellm" / "evals", np.random.default_rng(0)
    (evals / "mmlu" / "responses").mkdir(parents=True)
    (evals / "gsm8k").mkdir()
    subjects: dict[str, list[str]] = {"one": [], "two": []}
    for number in range(400):
        group = "chef" if number % 2 else "skipper"
        words = " ".join(draw.choice(GROUPS[group].split(), 6)) + f", line {number}\nof two"
        subjects["one" if number % 4 < 2 else "two"].append(f'"{words}",{group == "skipper"},True')
    head = f"prompt,{WEAK},{STRONG}\n"
    for subject, lines in subjects.items():
        (evals / "mmlu" / "responses" / f"mmlu_{subject}.csv").write_text(head + "\n".join(lines) + "\n")
    (evals / "gsm8k" / "gsm8k_responses.csv").write_text(head + "\n".join(subjects["one"]) + "\n")
    left_out = subjects["one"][0].split('"')[1]
    for name in ("mmlu", "gsm8k"):
        (evals / name / "contaminated_prompts.jsonl").write_text(json.dumps({"eval_prompt": left_out}) + "\n")
    return folder


def test_prompts_of_several_lines_are_read_and_contaminated_ones_left_out(tmp_path: Path) -> None:
    found = graded(checkout(tmp_path), "mmlu")
    assert len(found) == 399
    assert {example.category for example in found} == {"one", "two"}
    assert found[0].scores == {WEAK: 0.0, STRONG: 1.0}
    with pytest.raises(DatasetError, match="contaminated_prompts"):
        graded(tmp_path / "nowhere", "mmlu")


def test_an_order_by_lot_recovers_half_and_the_best_one_all_there_is() -> None:
    draw = np.random.default_rng(1)
    weak, strong = (draw.random(4000) < 0.5).astype(float), (draw.random(4000) < 0.8).astype(float)
    by_lot = recovered(draw.random(4000), weak, strong, seed=0)
    assert by_lot.apgr.low < 0.5 < by_lot.apgr.high
    assert by_lot.cpt50.value == pytest.approx(50, abs=8)
    best = recovered(strong - weak, weak, strong, seed=0)
    assert best.apgr.value == pytest.approx(best.oracle, abs=0.01)
    assert best.cpt50.value < 20
    assert recovered(weak - strong, weak, strong, seed=0).apgr.value < 0.3


def test_the_verb_finds_where_the_strong_model_is_better(tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    command = ["bench", "public-routing", "--routellm", str(checkout(tmp_path)), "--json", str(out)]
    assert main([*command, "--embedder", "minilm-static-384"]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert rows["mmlu"]["ours"]["apgr"]["value"] > 0.7
    assert rows["mmlu"]["subjects"]["apgr"]["value"] < 0.6
    assert rows["mmlu"]["ours"]["prompts"] == 399
    assert rows["gsm8k"].keys() == {"ours"}
