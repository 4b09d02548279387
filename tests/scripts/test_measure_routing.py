"""``scripts.measure``: the cascade, conversations, one step beside two, and languages."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

import router
import scripts.measure.cascade
import scripts.measure.conversations
import scripts.measure.languages
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


def test_the_labels_of_a_cascade_are_measured_too(tmp_path: Path) -> None:
    out = tmp_path / "steps.json"
    words = ["--data", hidden_file(tmp_path, 60), "--experts", EXPERTS, "--budgets", "3B", "--json", str(out)]
    assert scripts.measure.steps.main([*words, "--last", "minilm-static-384"]) == 0
    bounded, free = json.loads(out.read_text())["one step"]
    assert bounded["worth"]["composition"]["active"] < 4
    assert free["worth"]["over_blind"]["low"] > 5
    assert free["over"] is not None


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


def test_a_conversation_is_compared_with_deciding_each_turn_by_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, artifact = tmp_path / "kept.json", tmp_path / "artifact"
    finer().save(artifact)
    words = ["--artifact", str(artifact), "--data", hidden_file(tmp_path, 60), "--budgets", "5200M"]
    command = [*words, "--stay-margins", "0", "100", "--json", str(out)]
    assert scripts.measure.conversations.main(command) == 0
    first, strict, loose = json.loads(out.read_text())["kept"]
    assert (strict["lost"]["value"], strict["alike"]) == (0, 1)
    assert loose["alike"] < 1
    assert strict["changes"] > 0
    assert loose["lost"]["value"] > 0
    assert (first["changes"], loose["changes"]) == (0, 0)
    file = tmp_path / "few.jsonl"
    file.write_text(json.dumps({"id": "a/1", "prompt": "oven", "category": "chores", "scores": {}}) + "\n")
    assert scripts.measure.conversations.main([*words[:3], str(file)]) == 1
    assert "no category has two prompts kept apart" in capsys.readouterr().err


def test_the_quick_stage_is_counted_beside_the_last_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, artifact = tmp_path / "cascade.json", Path(router.__file__).parent / "embedded"
    plain = Path(__file__).parents[1] / "router" / "plain_prompts_held_out.txt"
    words = ["--artifact", str(artifact), "--plain", str(plain), "--json", str(out)]
    assert scripts.measure.cascade.main(words) == 0
    found = json.loads(out.read_text())
    assert found["prompts"] == 75
    assert 40 < found["alone"] < 75
    assert found["alike"] > 70
    assert found["cascade"]["right"] > 70
    assert 0 <= found["cascade"]["doubted"] < found["cascade"]["general"]
    finer().save(tmp_path / "slow")
    assert scripts.measure.cascade.main(["--artifact", str(tmp_path / "slow"), *words[2:]]) == 1
    assert "no quick stage" in capsys.readouterr().err
