"""``coe bench public-routing``: what it reads of checkouts, what an order of prompts recovers, and which
altered prompts are decided alike."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.public_routing.gap import recovered
from benchmarks.public_routing.grades import STRONG, WEAK, graded
from router.errors import DatasetError
from server.cli.main import main
from tests.router.mapping.hidden_groups import GROUPS, PLAIN, finer


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


def arena(folder: Path, altered: str) -> Path:
    """A checkout whose stronger model is better on what the router's best expert is expected to do well.
    Every other prompt has another wording: its words backwards, and for the first of them ``altered``."""
    results, predictions = folder / "cached_results", folder / "router_inference" / "predictions"
    results.mkdir(parents=True)
    predictions.mkdir(parents=True)
    draw = np.random.default_rng(3)
    groups = ["skipper" if number % 4 < 2 else "chef" for number in range(60)]
    prompts = [" ".join(draw.choice(GROUPS[group].split(), 14)) for group in groups]
    for model, scores in {"strong": (1.0, 0.5), "weak": (0.0, 0.5)}.items():
        rows = (
            {
                "global_index": f"A_{number}",
                "question": prompt,
                "evaluation_result": {"score": scores[group != best_expert()], "inference_cost": 0.001},
            }
            for number, (group, prompt) in enumerate(zip(groups, prompts, strict=True))
        )
        (results / f"{model}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    others = [" ".join(reversed(prompt.split())) for prompt in prompts[::2]]
    written = [{"global index": f"A_{2 * number}", "prompt": text} for number, text in enumerate(others)]
    written[0]["prompt"] = altered
    written.append({"global index": "of the full set", "prompt": "answered by no model"})
    (predictions / "some-router-robustness.json").write_text(json.dumps(written))
    return folder


def best_expert() -> str:
    table = finer().artifact.scores
    assert table is not None
    return table.experts[int((table.shares @ table.means).argmax())]


def test_altered_prompts_that_go_elsewhere_are_counted_beside_the_entropy(tmp_path: Path) -> None:
    out, artifact = tmp_path / "report.json", tmp_path / "artifact"
    finer().save(artifact)
    checkout = arena(tmp_path, altered=GROUPS["chef"])
    command = ["bench", "public-routing", "--routerarena", str(checkout), "--artifact", str(artifact)]
    assert main([*command, "--budgets", "1B,7B", "--json", str(out)]) == 0
    found = json.loads(out.read_text())["routerarena"]
    assert found["altered"] == 30
    category, _, _, constant, free = found["robustness"]
    assert (category["same"]["value"], category["active"]) == (100, None)
    assert (constant["same"]["value"], constant["entropy"], constant["most"]) == (100, 0, 1)
    assert free["same"]["value"] == pytest.approx(100 * 29 / 30)
    assert free["entropy"] == pytest.approx(1, abs=0.01)
    assert (free["what"], free["active"]) == ("7 B", 7)


def test_an_order_of_the_prompts_gains_over_a_lot_on_prompts_that_were_not_trained_on(tmp_path: Path) -> None:
    out, artifact, training = (tmp_path / name for name in ("report.json", "artifact", "training.jsonl"))
    finer().save(artifact)
    checkout = arena(tmp_path, altered=GROUPS["chef"])
    rows = (checkout / "cached_results" / "weak.jsonl").read_text().splitlines()
    seen = [f"Question: {json.loads(row)['question']}" for row in rows[:7]]
    lines = [json.dumps({"id": str(number), "prompt": text}) for number, text in enumerate([*seen, PLAIN])]
    training.write_text("\n".join(lines))
    command = ["bench", "public-routing", "--routerarena", str(checkout), "--artifact", str(artifact)]
    assert main([*command, "--trained-on", str(training), "--json", str(out)]) == 0
    found = json.loads(out.read_text())["routerarena"]
    assert (found["left_out"], found["gained"]["prompts"]) == (7, 53)
    assert (found["strong"]["name"], found["weak"]["name"], found["only_weaker"]) == ("strong", "weak", 0)
    assert found["gained"]["apgr"]["value"] == pytest.approx(found["gained"]["oracle"], abs=0.01)
    assert found["gained"]["over_mix"]["low"] > 5


def test_files_that_a_checkout_lacks_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artifact = tmp_path / "artifact"
    finer().save(artifact)

    def complaint(*words: str) -> str:
        assert main(["bench", "public-routing", "--artifact", str(artifact), *words]) == 1
        return capsys.readouterr().err

    assert "give --routellm or --routerarena" in complaint()
    assert "is nowhere a checkout of RouteWorks/RouterArena?" in complaint("--routerarena", "nowhere")
    checkout = arena(tmp_path, altered=PLAIN)
    answers = checkout / "cached_results" / "weak.jsonl"
    kept = answers.read_text()
    answers.write_text('{"global_index": 1}\n')
    assert "weak.jsonl cannot be read: KeyError('question')" in complaint("--routerarena", str(checkout))
    answers.write_text(kept.replace("inference_cost", "price"))
    assert "without a grade and a cost" in complaint("--routerarena", str(checkout))
    answers.write_text(kept)
    (checkout / "router_inference" / "predictions" / "some-router-robustness.json").unlink()
    assert "has no *-robustness.json with altered prompts" in complaint("--routerarena", str(checkout))
