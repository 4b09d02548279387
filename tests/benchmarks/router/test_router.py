"""``coe bench router``: its prompts, what it splits, its ratios, and the verb."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from benchmarks.router.clusters import CLUSTERS, clustered, rows_of
from benchmarks.router.measure import (
    CASCADE,
    LENGTHS,
    WARMING,
    Contestant,
    latency,
    measure,
    one_core,
    prompts_of,
    router_on,
    throughput,
)
from benchmarks.router.report import Report, Row, Throughput
from benchmarks.router.tables import show
from router.artifacts.artifact import Artifact
from router.classifiers.classifier import LinearClassifier
from router.embedders.minilm import MiniLmOnnx
from router.embedders.registry import embedders
from server.cli.bench.router import EMBEDDED
from server.cli.main import main
from tests.router.hashed_words import HashedWords
from tests.router.mapping.hidden_groups import finer


def row(embedder: str, tokens: int, decision: float) -> Row:
    return Row(
        embedder, 18, tokens, (decision,) * 3, (decision / 2,) * 3, (decision / 4,) * 3, (decision / 5,) * 3
    )


def report(milliseconds: float, per_second: float) -> Report:
    return Report(
        cores=2,
        load_average=0.5,
        default="small",
        decisions=3,
        batch_tokens=200,
        rows=(row("small", 200, milliseconds / 1e3), row("small", 20, 1e-3), row("other", 200, 9.0)),
        batches=(Throughput("small", 18, per_second, 2 * per_second), Throughput("other", 18, 1, 2)),
    )


@pytest.mark.parametrize("length", [20, 200])
def test_a_prompt_has_as_many_tokens_as_was_asked(length: int) -> None:
    made = prompts_of(length, count=5, seed=1)
    assert len(set(made)) == 5
    assert made == prompts_of(length, count=5, seed=1)
    special = 2
    assert {len(MiniLmOnnx().tokens_of(text)) - special for text in made} == {length}


def test_a_router_decides_on_an_embedder_it_was_not_trained_on() -> None:
    artifact = Artifact.read(EMBEDDED)
    router = router_on(artifact, HashedWords())
    assert router.decide("What is 2 + 2?").expert in artifact.mapping.names()
    assert router.artifact.uncertainty.landmarks.shape == (
        len(artifact.uncertainty.landmarks),
        HashedWords.dimension,
    )


def test_on_the_embedder_it_was_trained_on_the_numbers_stay() -> None:
    artifact, embedder = Artifact.read(EMBEDDED), MiniLmOnnx()
    router = router_on(artifact, embedder)
    found, before = router.artifact.classifier, artifact.classifier
    assert isinstance(found, LinearClassifier)
    assert isinstance(before, LinearClassifier)
    assert np.array_equal(found.logits.weights, before.logits.weights)
    assert router.artifact.embedder == artifact.embedder


def test_a_router_gets_as_many_finer_categories_as_trained_ones_have() -> None:
    artifact = Artifact.read(EMBEDDED)
    router = router_on(clustered(artifact, seed=0), HashedWords())
    decisions = [router.decide(prompt) for prompt in prompts_of(20, count=30, seed=1)]
    assert rows_of(router.artifact) == CLUSTERS
    assert len({decision.cluster for decision in decisions}) > 2
    for decision in decisions:
        assert decision.cluster.rpartition("/")[0] == decision.category
        assert decision.expert == artifact.mapping[decision.category]


def test_a_router_that_has_finer_categories_is_measured_with_these_alone(
    tmp_path: Path,
) -> None:
    finer().artifact.write(tmp_path)
    found = measure(tmp_path, 1, 0, lambda *_: None)
    assert {row.rows for row in found.rows} == {rows_of(finer().artifact)}
    assert len(found.rows) == len(embedders()) * len(LENGTHS)


def test_every_decision_that_counts_is_split() -> None:
    alone = Contestant.alone(Artifact.read(EMBEDDED), HashedWords())
    found = latency(alone, 7, ["some words"] * (WARMING + 4))
    assert (found.embedder, found.tokens) == ("hashed-words", 7)
    assert len(found.decision) == len(found.embedding) == len(found.limit) == 4
    assert len(found.wall) == 4
    assert min(found.embedding) > 0
    assert min(found.rest) > 0
    assert throughput(alone, ["some words"] * 3).per_second > 0


def test_a_cascade_embeds_with_both_where_the_quick_stage_is_not_sure() -> None:
    contestant = Contestant.cascade(Artifact.read(EMBEDDED))
    sure = latency(contestant, 7, ["What is the integral of x^2?"] * (WARMING + 3))
    doubted = latency(contestant, 7, ["qwrtz 9#! zxcvb mnbvc"] * (WARMING + 3))
    assert sure.embedder == doubted.embedder == CASCADE
    assert max(sure.embedding) < min(doubted.embedding)


def test_it_computes_on_one_core_and_gives_the_others_back() -> None:
    before = os.sched_getaffinity(0)
    with one_core():
        assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == before
    with pytest.raises(InterruptedError), one_core():
        raise InterruptedError
    assert os.sched_getaffinity(0) == before


def test_the_default_embedder_stands_beside_its_aims() -> None:
    assert [(each.what, each.value, each.met) for each in report(4.0, 600).compared] == [
        ("small, 18 rows: mean ms at 200 tokens", 4.0, False),
        ("small, 18 rows: mean ms at 20 tokens", 1.0, False),
        ("small, 18 rows: decisions/s batched", 600, True),
    ]
    assert [each.met for each in report(2.0, 499).compared] == [True, False, False]


def test_the_tables_say_what_misses_its_aim() -> None:
    printed = io.StringIO()
    show(report(4.0, 600), Console(file=printed, width=200))
    lines = [" ".join(line.split()) for line in printed.getvalue().splitlines()]
    assert "small 18 200 4.00 / 4.00 4.00 0.80 / 0.80 2.00 / 2.00 2.00 / 2.00 1.00 / 1.00 4.00" in lines
    assert "small 18 600 1,200 0.50" in lines
    assert "small, 18 rows: mean ms at 200 tokens 4.00* at most 2" in lines
    assert "small, 18 rows: decisions/s batched 600.00 at least 500" in lines


def test_the_verb_measures_every_embedder_that_ships(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report.json"
    assert main(["bench", "router", "--decisions", "2", "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    labels = len(Artifact.read(EMBEDDED).classifier.labels)
    assert {(each["embedder"], each["rows"], each["tokens"]) for each in found["rows"]} == {
        (name, rows, length) for name in embedders() for rows in (labels, CLUSTERS) for length in LENGTHS
    } | {(CASCADE, labels, length) for length in LENGTHS}
    assert {(each["embedder"], each["rows"]) for each in found["batches"]} == {
        (name, rows) for name in embedders() for rows in (labels, CLUSTERS)
    } | {(CASCADE, labels)}
    assert all(each["decision_p99_ms"] >= each["decision_p50_ms"] > 0 for each in found["rows"])
    assert [each["what"].partition(",")[0] for each in found["compared"]] == [found["default"]] * 3
    assert "ms of a decision on one of" in capsys.readouterr().out


def test_a_folder_without_a_router_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "router", "--artifact", str(tmp_path)]) == 1
    assert "holds no router" in capsys.readouterr().err
