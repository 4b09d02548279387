"""``scripts.measure``: conversations, one step beside two, languages, and RouterArena's published answers."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

import scripts.measure.conversations
import scripts.measure.languages
import scripts.measure.router_arena
import scripts.measure.steps
from tests.router.mapping.hidden_groups import finer, hidden_file
from tests.scripts.test_cross_validate import EXPERTS


def test_each_way_is_measured_at_each_budget_and_compared_with_two_steps(tmp_path: Path) -> None:
    out = tmp_path / "steps.json"
    words = ["--data", hidden_file(tmp_path, 60), "--experts", EXPERTS, "--budgets", "3B", "--json", str(out)]
    assert scripts.measure.steps.main(words) == 0
    found = json.loads(out.read_text())
    assert {*found} == {"two steps", "one step", "two steps, no doubt", "one step, no doubt"}
    for way, (bounded, free) in found.items():
        assert bounded["worth"]["composition"]["active"] < 4
        assert (
            bounded["worth"]["composition"]["score"]["value"] < free["worth"]["composition"]["score"]["value"]
        )
        assert free["worth"]["over_blind"]["low"] > 5
        assert (free["over"] is None) == (way == "two steps")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--experts", "chat"), "write each once as NAME=SIZE"),
        (("--experts", "chat=1B,poet=2B"), "no prompt is graded for all of chat, poet"),
        (("--budgets", "0.5B"), "no expert fits a budget of 0.5 B active parameters"),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: Sequence[str], complaint: str
) -> None:
    rest = ["--data", hidden_file(tmp_path, 60), "--experts", EXPERTS]
    assert scripts.measure.steps.main([*rest, *words]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert complaint in said.err.splitlines()[-1]


def test_the_languages_of_prompts_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("py3langid")
    file = tmp_path / "prompts.jsonl"
    prompts = ["Mennyi a kör területe, ha a sugara három méter?", "How large is the area of this circle?"]
    file.write_text("".join(json.dumps({"id": f"p/{n}", "prompt": p}) + "\n" for n, p in enumerate(prompts)))
    assert scripts.measure.languages.main(["--data", str(file), "--languages", "hu", "ja"]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith("2 prompts, ")
    assert rest == ["hu: 1", "p/0: hu"]
    assert scripts.measure.languages.main(["--data", str(file), "--languages", "xx"]) == 1
    assert "no language 'xx'" in capsys.readouterr().err


def test_what_published_answers_leave_to_a_router(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert scripts.measure.router_arena.main([str(tmp_path)]) == 1
    assert "has no prompt that is answered in each file" in capsys.readouterr().err
    results = tmp_path / "cached_results"
    results.mkdir()
    for name, scores in {"good": (1, 1, 0), "bad": (0, 0.5, 1)}.items():
        rows = (
            {"global_index": f"A_{n}", "evaluation_result": {"score": score, "inference_cost": 0.001}}
            for n, score in enumerate(scores)
        )
        (results / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert scripts.measure.router_arena.main([str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "3 prompts",
        "bad: 50.0, $1.000 a thousand",
        "good: 66.7, $1.000 a thousand",
        "the per-prompt oracle: 100.0",
        "only another than good is right: 1 prompts",
    ]


def test_a_conversation_is_compared_with_deciding_each_turn_by_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, artifact = tmp_path / "kept.json", tmp_path / "artifact"
    finer().save(artifact)
    words = ["--artifact", str(artifact), "--data", hidden_file(tmp_path, 60), "--budgets", "5200M"]
    command = [*words, "--stay-margins", "0", "100", "--json", str(out)]
    assert scripts.measure.conversations.main(command) == 0
    first, strict, loose = json.loads(out.read_text())["kept"]
    assert strict["lost"]["value"] == 0
    assert strict["changes"] > 0
    assert loose["lost"]["value"] > 0
    assert (first["changes"], loose["changes"]) == (0, 0)
    file = tmp_path / "few.jsonl"
    file.write_text(json.dumps({"id": "a/1", "prompt": "oven", "category": "chores", "scores": {}}) + "\n")
    assert scripts.measure.conversations.main([*words[:3], str(file)]) == 1
    assert "no category has two prompts kept apart" in capsys.readouterr().err
