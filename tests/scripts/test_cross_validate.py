"""``python -m scripts.router.cross_validate``: what it measures, and what it says of wrong options."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from scripts.router.cross_validate import main
from tests.router.mapping.hidden_groups import hidden_file

EXPERTS = "chat=1B,chef=7B,skipper=7B"


def test_each_budget_is_measured_on_all_prompts(tmp_path: Path) -> None:
    out = tmp_path / "gains.json"
    words = ("--data", hidden_file(tmp_path, 20), "--experts", EXPERTS, "--budgets", "1B", "--folds", "2")
    assert main([*words, "--embedder", "minilm-static-384", "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found[0]["composition"]["active"] == pytest.approx(1)
    assert len(found) == 2


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--data", "nowhere.jsonl"), "nowhere.jsonl cannot be read"),
        (("--experts", "chat"), "--experts 'chat': write each once as NAME=SIZE"),
        (("--experts", "chat=1B,poet=2B"), "no line has scores of all of chat, poet"),
        (("--budgets", "much"), "--budgets: 'much' is not a number of parameters"),
        (("--budgets", "0.5B"), "no expert fits a budget of 0.5 B active parameters"),
        (("--embedder", "nonsense"), "no embedder is called 'nonsense'"),
    ],
)
def test_what_is_wrong_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: Sequence[str], complaint: str
) -> None:
    rest = (
        "--data",
        hidden_file(tmp_path, 20),
        "--experts",
        EXPERTS,
        "--folds",
        "2",
        "--embedder",
        "minilm-static-384",
    )
    assert main([*rest, *words]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert f"cross_validate: {complaint}" in said.err.splitlines()[-1]
