"""``scripts.measure.doubts`` and ``scripts.measure.embedders``: what they compare and print."""

import json
import random
from pathlib import Path

import numpy as np
import pytest

from router.classifiers.uncertainty import Signs, Uncertainty
from router.data.dataset import Example
from router.errors import DatasetError
from scripts.measure.doubts import Kind, compared, main
from scripts.measure.doubts import measure as measure_doubts
from scripts.measure.embedders import Trial
from scripts.measure.embedders import main as main_of_embedders
from scripts.measure.embedders import measure as measure_embedders
from tests.router.hashed_words import HashedWords

TOPICS = {
    "cooking": "oven butter flour sugar whisk dough salt pepper roast simmer",
    "sailing": "mast rudder keel anchor harbour jib tiller starboard reef knot",
}


def prompts(each: int = 40) -> list[Example]:
    choose = random.Random(1)
    return [
        Example(f"{topic}/{index}", " ".join(choose.choices(words.split(), k=9)), topic)
        for topic, words in TOPICS.items()
        for index in range(each)
    ]


def test_what_all_signs_tell_apart_has_an_auroc_of_one_and_is_detected() -> None:
    random = np.random.default_rng(0)
    low, high = (random.uniform(start, start + 1, 100) for start in (0.0, 5.0))
    known, new = Signs(low, low, low), Signs(high, high, high)
    doubts = Uncertainty.of(np.zeros((1, 1), dtype=np.float32), known, importance=np.ones(100), doubted=0.05)
    plain = np.arange(100) < 50
    for alarm in compared(doubts, (known, low), (new, high), plain).values():
        assert (alarm.auroc, alarm.detected) == (1.0, 1.0)
        assert alarm.plain < 0.2
    for alarm in compared(doubts, (known, low), (known, low), plain).values():
        assert alarm.auroc == pytest.approx(0.5, abs=0.1)
        assert alarm.detected < 0.2


def test_a_label_and_a_source_are_left_out_one_at_a_time() -> None:
    kinds = [Kind("sailing", label=True), Kind("cooking/", label=False)]
    rows = measure_doubts(prompts(), kinds, lambda *_: None, embedder=HashedWords()).rows
    assert [(row.kind, row.new) for row in rows] == list(zip(kinds, [40, 40], strict=True))
    assert all(0 < row.known < 40 for row in rows)


@pytest.mark.parametrize("kind", [Kind("law", label=True), Kind("law/", label=False), Kind("", label=False)])
def test_a_kind_that_no_prompt_or_every_prompt_is_of_is_refused(kind: Kind) -> None:
    with pytest.raises(DatasetError, match="leave out another"):
        measure_doubts(prompts(), [kind], lambda *_: None, embedder=HashedWords())


def test_each_classifier_is_measured_on_all_a_part_and_plain_prompts() -> None:
    plain = [Example("p/1", "whisk the dough", "cooking"), Example("p/2", "nobody knows", "unknown")]
    trial = Trial(prompts(), "sailing/", plain)
    report = measure_embedders(trial, lambda *_: None, [HashedWords()])
    assert [str(row.way) for row in report.rows] == ["linear, with grams", "linear", "neighbours"]
    for row in report.rows:
        assert row.accuracy.value > 0.8
        assert row.part is not None
        assert row.plain is not None
        assert row.plain.value in (0.0, 1.0)
    assert [few.kind for few in report.few] == ["linear", "neighbours"]
    json.dumps(report.json())


def test_without_anything_left_out_it_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["--data", str(tmp_path / "absent.jsonl")])
    assert "--without-label" in capsys.readouterr().err


def test_a_table_is_printed_and_json_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, figures = tmp_path / "data.jsonl", tmp_path / "figures.json"
    lines = [{"id": e.id, "prompt": e.prompt, "category": e.category} for e in prompts(10)]
    data.write_text("\n".join(map(json.dumps, lines)))
    given = ["--data", str(data), "--json", str(figures)]
    assert main([*given, "--without-label", "sailing"]) == 0
    assert "all three" in capsys.readouterr().out
    assert json.loads(figures.read_text())["rows"][0]["kind"]["name"] == "sailing"
    assert main_of_embedders(["--data", str(tmp_path / "absent.jsonl")]) == 1
    assert "absent.jsonl cannot be read" in capsys.readouterr().err
