"""``coe bench routers``: curves with known values, rivals on data with a known answer, and the verb."""

import gzip
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from rich.console import Console

from benchmarks.routers.contest import Contestant, Graded, Pool, by_price, graded
from benchmarks.routers.curve import STEPS, Curves, area
from benchmarks.routers.label_routers import Labelled, PricedClusters, WeighedClusters, group_means
from benchmarks.routers.mapped_artifact import MappedArtifact
from benchmarks.routers.measure import Trial, measure
from benchmarks.routers.standings import Entry, Report, report
from benchmarks.routers.tables import show
from benchmarks.routers.two_model_routers import (
    MatrixFactorisation,
    SimilarityWeighted,
    battles,
    bradley_terry,
    by_threshold,
    gradients,
    unit,
)
from router.arrays import Floats, Vectors
from router.artifacts.artifact import Artifact
from router.artifacts.manifest import EmbedderRecord
from router.classifiers.classifier import LinearClassifier
from router.classifiers.lexicon import BUCKETS
from router.classifiers.linear import Linear
from router.data.dataset import Example
from router.errors import DatasetError, MappingError
from router.mapping.expert_mapping import ExpertMapping
from router.mapping.metrics import Estimate
from router.mapping.score_table import ScoreTable
from router.router import Router
from server.cli.bench.router import EMBEDDED
from server.cli.main import main
from tests.router.hashed_words import HashedWords

SMALL_AND_BIG = Pool.of({"big": 50.0, "small": 10.0})
TOPICS = {"easy": (1.0, 1.0), "hard": (0.0, 1.0)}
"""Grades of the small and the big one."""


def test_experts_stand_cheapest_first_and_need_two_sizes() -> None:
    assert SMALL_AND_BIG.names == ("small", "big")
    assert SMALL_AND_BIG.parameters.tolist() == [10, 50]
    with pytest.raises(DatasetError, match="no trade-off"):
        Pool.of({"a": 7.0, "b": 7.0})


def test_only_prompts_that_every_expert_was_graded_on_count() -> None:
    whole = [Example(str(n), f"prompt {n}", scores={"small": 0, "big": 1}) for n in range(25)]
    partly = [Example(f"p{n}", f"part {n}", scores={"small": 0}) for n in range(25)]
    assert graded(SMALL_AND_BIG, whole + partly, "test") == whole
    with pytest.raises(DatasetError, match="the test part has 10 prompts graded for all of small, big"):
        graded(SMALL_AND_BIG, whole[:10] + partly, "test")


def test_with_equal_scores_the_cheapest_is_chosen_and_a_high_price_leaves_nobody_else() -> None:
    choices = by_price(np.array([[0.5, 0.5], [0.0, 1.0]]), SMALL_AND_BIG.parameters)
    assert choices[0].tolist() == [0, 1]
    assert choices[-1].tolist() == [0, 0]


def word(number: int) -> str:
    """Prompts with other numbers only would be near twins."""
    return "".join("abcdefghij"[int(digit)] for digit in str(number))


def data(count: int = 200, seed: int = 0, pool: Pool = SMALL_AND_BIG) -> Graded:
    """Half easy, which both experts can do, and half hard, which only the big one can."""
    random = np.random.default_rng(seed)
    names = [("easy", "hard")[n % 2] for n in range(count)]
    centres = {"easy": np.array([1.0, 0, 0, 0]), "hard": np.array([0, 1.0, 0, 0])}
    vectors = np.array([centres[name] for name in names]) + random.normal(0, 0.1, (count, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    examples = [
        Example(
            f"{seed}/{n}",
            f"{name} {word(seed)} {word(n)}",
            name,
            dict(zip(pool.names, TOPICS[name], strict=True)),
        )
        for n, name in enumerate(names)
    ]
    rows: dict[str, Vectors] = {
        example.prompt: row for example, row in zip(examples, vectors.astype(np.float32), strict=True)
    }
    return Graded.of(pool, examples, rows)


def test_a_curve_goes_from_the_cheapest_along_its_points_and_stays_level_behind_the_last() -> None:
    test = data(100)
    curves = Curves.over(test, resamples=1, seed=0, budgets=[10, 20, 30, 50])
    hard_to_big = np.arange(100)[None] % 2
    assert curves.of(hard_to_big)[0, STEPS:].tolist() == [50, 75, 100, 100]
    assert [(point.active, point.score) for point in curves.frontier(hard_to_big)] == [(10, 50), (30, 100)]


def test_the_floor_is_the_best_mix_by_lot_and_the_ceiling_knows_every_grade() -> None:
    curves = Curves.over(data(100), resamples=1, seed=0, budgets=[10, 20, 30, 50])
    assert curves.blind()[0, STEPS:].tolist() == [50, 62.5, 75, 100]
    assert_allclose(curves.of(curves.oracle())[0, STEPS:], [50, 75, 100, 100])
    assert area(curves.blind())[0] == pytest.approx(75)
    assert area(curves.of(curves.oracle()))[0] == pytest.approx(87.5, abs=0.01)


def test_the_floor_leaves_out_who_is_worse_and_dearer() -> None:
    pool = Pool.of({"a": 10.0, "dull": 20.0, "twin": 20.0, "b": 30.0})
    scores = np.tile([0.5, 0.1, 0.2, 0.9], (40, 1))
    test = Graded(
        pool, tuple(Example(str(n), str(n)) for n in range(40)), np.zeros((40, 2), dtype=np.float32), scores
    )
    blind = Curves.over(test, 1, 0, [10, 15, 20, 30]).blind()
    assert_allclose(blind[0, STEPS:], [50, 60, 70, 90])


def test_resamples_are_paired_so_that_a_constant_lead_has_no_spread() -> None:
    test = data(100)
    curves = Curves.over(test, resamples=200, seed=3)
    chosen = np.arange(100)[None] % 2
    values = area(curves.of(chosen))
    found, difference = Estimate.of(values), Estimate.of(values - area(curves.of(chosen.repeat(2, axis=0))))
    assert found.low < found.value < found.high
    assert (difference.value, difference.low, difference.high) == (0, 0, 0)
    again = Curves.over(test, resamples=200, seed=3)
    assert np.array_equal(again.weights, curves.weights)
    assert (curves.weights.sum(axis=1) == 100).all()


def reached(contestant: Contestant, budget: float) -> float:
    """Score in points on prompts it was not trained on."""
    test = data(seed=1)
    choices = contestant.fit(data(seed=0)).choices(test.prompts, test.vectors)
    return float(Curves.over(test, 0, 0, [budget]).of(choices)[0, -1])


RIVALS: list[Contestant] = [
    Labelled(),
    PricedClusters(clusters=2),
    WeighedClusters(clusters=2, nearest=1),
    MatrixFactorisation("big", dimension=4, epochs=60, rate=0.01),
    SimilarityWeighted("big"),
]


@pytest.mark.parametrize("rival", RIVALS, ids=repr)
def test_a_rival_finds_out_who_needs_the_big_expert(rival: Contestant) -> None:
    """Only hard prompts to it makes 30 B and every answer right; by lot it would be 75 points."""
    assert reached(rival, 30) == pytest.approx(100, abs=1.0)


@pytest.mark.parametrize("rival", RIVALS, ids=repr)
def test_the_same_training_gives_the_same_choices(rival: Contestant) -> None:
    train, test = data(60), data(40, seed=1)
    first, second = (rival.fit(train).choices(test.prompts, test.vectors) for _ in range(2))
    assert np.array_equal(first, second)
    assert first.shape[1] == 40
    assert set(np.unique(first)) <= {0, 1}


def test_a_battle_is_won_by_the_better_grade_and_a_draw_counts_half_or_not() -> None:
    scores = np.array([[0.2, 0.9], [0.5, 0.5]])
    assert battles(scores, draws=False).tolist() == [[[0, 0], [1, 0]], [[0, 0], [0, 0]]]
    assert battles(scores, draws=True).tolist() == [[[0, 0], [1, 0]], [[0, 0.5], [0.5, 0]]]


def test_who_wins_three_of_four_is_rated_higher_by_log_three() -> None:
    ratings = bradley_terry(np.array([[[0, 3.0], [1, 0]], [[0, 500.0], [500, 0]]]))
    assert_allclose(ratings[:, 0] - ratings[:, 1], [np.log(3), 0], atol=0.02)
    assert_allclose(ratings.sum(axis=1), 0, atol=1e-9)


def test_who_never_loses_has_a_finite_rating() -> None:
    ratings = bradley_terry(np.array([[[0, 1.0], [0, 0]]]))
    assert np.isfinite(ratings).all()
    assert ratings[0, 0] > ratings[0, 1] + 3


def test_the_gradients_are_those_of_the_mean_log_loss() -> None:
    random = np.random.default_rng(0)
    shapes = ((3, 5), (3,), (4, 3), (3,))
    values: list[Floats] = [random.normal(size=shape) for shape in shapes]
    vectors, won = random.normal(size=(6, 5)), battles(random.integers(0, 3, (6, 4)) / 2, draws=True)

    def loss() -> float:
        projection, bias, experts, weights = values
        ratings = (vectors @ projection.T + bias) @ (unit(experts) * weights).T
        lead = ratings[:, :, None] - ratings[:, None, :]
        return float((won * np.log1p(np.exp(-lead))).sum()) / len(vectors)

    for value, gradient in zip(values, gradients(values, vectors, won), strict=True):
        for place in np.ndindex(value.shape):
            before = value[place]
            value[place] = before + 1e-5
            above = loss()
            value[place] = before - 1e-5
            below = loss()
            value[place] = before
            assert gradient[place] == pytest.approx((above - below) / 2e-5, abs=1e-6)


def test_thresholds_go_from_all_to_the_strong_expert_to_nearly_none() -> None:
    choices = by_threshold(np.array([0.2, 0.9, 0.5]), strong=2)
    assert choices[0].tolist() == [2, 2, 2]
    assert choices[-1].tolist() == [0, 2, 0]


def test_a_groups_means_are_drawn_to_those_of_all_and_an_empty_group_has_them() -> None:
    scores = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    groups = np.array([0, 0, 2, 2])
    assert group_means(groups, 3, scores, prior=0).tolist() == [[1, 0.5], [0.5, 0.75], [0, 1]]
    assert group_means(groups, 3, scores, prior=2)[0].tolist() == [0.75, 0.625]


def test_performance_alone_chooses_the_best_of_a_cluster_and_efficiency_alone_the_cheapest() -> None:
    test = data(40, seed=1)
    choices = WeighedClusters(clusters=2, nearest=1).fit(data()).choices(test.prompts, test.vectors)
    assert (choices[0] == 0).all()
    assert choices[-1].tolist() == [0, 1] * 20


def artifact(table: ScoreTable | None) -> Artifact:
    """Prompts with the word easy or hard are of that category."""
    embedder = HashedWords()
    base = Artifact.read(EMBEDDED)
    names = ("easy", "general", "hard")
    landmarks = embedder.embed(names)
    without_grams = np.zeros((BUCKETS, 3), dtype=np.float16)
    return replace(
        base,
        embedder=EmbedderRecord(name=embedder.name, dimension=embedder.dimension, sha256=embedder.sha256),
        classifier=LinearClassifier(names, Linear(20 * landmarks, np.zeros(3, np.float32), without_grams)),
        uncertainty=replace(base.uncertainty, landmarks=landmarks, max_surprise=np.inf),
        mapping=ExpertMapping(dict.fromkeys(names, "small")),
        quick=None,
        scores=table,
        clusters=None,
    )


def table(experts: Sequence[str] = ("small", "big")) -> ScoreTable:
    means = np.array([[1.0, 1.0], [0.5, 1.0], [0.0, 1.0]])
    return ScoreTable(
        ("easy", "general", "hard"),
        tuple(experts),
        SMALL_AND_BIG.parameters,
        np.array([0.45, 0.1, 0.45]),
        means,
        np.zeros((3, 2)),
        np.ones((3, 2), dtype=np.int64),
    )


def test_an_artifact_sends_each_category_where_the_best_map_of_a_budget_does() -> None:
    test = data(20)
    ours = MappedArtifact.of(Router(artifact(table()), HashedWords()), SMALL_AND_BIG)
    choices = ours.fit(test).choices(test.prompts, test.vectors)
    assert {tuple(row) for row in choices.tolist()} == {(0, 0) * 10, (0, 1) * 10}


def test_an_artifact_needs_scores_of_the_same_experts() -> None:
    with pytest.raises(MappingError, match="keeps no scores"):
        MappedArtifact.of(Router(artifact(None), HashedWords()), SMALL_AND_BIG)
    with pytest.raises(MappingError, match="chooses among big, tiny, and --experts names big, small"):
        MappedArtifact.of(Router(artifact(table(("tiny", "big"))), HashedWords()), SMALL_AND_BIG)


def trial(budgets: Sequence[float] = (30.0,)) -> Trial:
    return Trial(data(200).examples, data(100, seed=1).examples, SMALL_AND_BIG, budgets, resamples=50)


def test_ours_stands_first_and_rivals_are_tuned_beside_it() -> None:
    stages = []
    found = measure(trial(), HashedWords(), artifact(table()), lambda stage, *_: stages.append(stage))
    assert [standing.name for standing in found.standings] == [
        "ours",
        "labels, price",
        "k-means, price",
        "k-means, alpha",
        "matrix factorisation",
        "similarity-weighted",
    ]
    assert "tuning k-means, price" in stages
    ours, labels = found.standings[:2]
    assert (ours.area.value, ours.part_of_oracle.value) == pytest.approx((87.5, 1.0), abs=0.01)
    assert ours.gains[0].value == pytest.approx(25)
    assert (ours.behind.value, labels.behind.value) == pytest.approx((0, 0), abs=0.01)
    assert (found.train_prompts, found.test_prompts) == (200, 100)
    assert [(point.active, point.score) for point in found.singles] == [(10, 50), (50, 100)]


def test_a_prompt_to_train_on_is_none_to_test_on() -> None:
    with pytest.raises(DatasetError, match="test prompt '0/0' is a training prompt too"):
        Trial(data().examples, data().examples, SMALL_AND_BIG)


def test_a_budget_is_between_the_cheapest_expert_and_the_dearest() -> None:
    with pytest.raises(DatasetError, match="a budget of 9 B is not between"):
        trial(budgets=(9.0,))


def standings() -> Report:
    curves = Curves.over(data(100), 100, 0, [30.0])
    hard_to_big, all_to_big = np.arange(100)[None] % 2, np.ones((1, 100), dtype=np.int64)
    return report(curves, [Entry("good", "Good()", hard_to_big), Entry("dull", "Dull()", all_to_big)], 400)


def test_the_tables_give_every_figure_with_its_interval_beside_floor_and_ceiling() -> None:
    printed = io.StringIO()
    show(standings(), Console(file=printed, width=200))
    lines = [" ".join(line.split()) for line in printed.getvalue().splitlines()]
    floor, good, dull, ceiling = (
        next(line for line in lines if line.startswith(name))
        for name in ("blind mix (floor)", "good", "dull", "per-prompt oracle")
    )
    assert floor.startswith("blind mix (floor) 75.00 [")
    assert good.startswith("good 87.50 [")
    assert "1.000 [1.000, 1.000]" in good
    assert dull.startswith("dull 75.00 [")
    assert "+12.50 [" in dull
    assert ceiling.startswith("per-prompt oracle (ceiling) 87.50 [")
    assert "good: Good()" in lines
    assert any(line.startswith("good +25.00 [") for line in lines)


def written(folder: Path, name: str, part: Graded) -> Path:
    file = folder / name
    with gzip.open(file, "wt") if name.endswith(".gz") else file.open("w") as stream:
        for example in part.examples:
            line = {
                "id": example.id,
                "prompt": example.prompt,
                "category": example.category,
                "scores": dict(example.scores),
            }
            stream.write(json.dumps(line) + "\n")
    return file


def test_the_verb_writes_figures_and_a_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, test = (
        written(tmp_path, "a.jsonl.gz", data(160)),
        written(tmp_path, "b.jsonl.gz", data(40, seed=1)),
    )
    figures, plot = tmp_path / "report.json", tmp_path / "frontier.png"
    arguments = [
        "bench",
        "routers",
        "--train",
        str(train),
        "--experts",
        "small=10B,big=50B",
        "--budgets",
        "30B",
    ]
    more = ["--test", str(test), "--resamples", "20", "--json", str(figures), "--plot", str(plot)]
    assert main([*arguments, *more]) == 0
    found = json.loads(figures.read_text())
    assert found["experts"] == {"small": 10, "big": 50}
    assert found["standings"][0]["name"] == "labels, price"
    assert all(len(standing["gains"]) == 1 for standing in found["standings"])
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert "per-prompt oracle (ceiling)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--experts", "small", "--experts 'small': write each once as NAME=SIZE"),
        ("--experts", "a=1B,a=2B", "--experts 'a': write each once"),
        ("--experts", "a=1,b=2B", "--experts: '1' is not a number of parameters"),
        ("--budgets", "8", "--budgets: '8' is not a number of parameters"),
    ],
)
def test_a_wrong_option_is_one_line(
    option: str, value: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, "a.jsonl", data(40))
    given = {"--train": str(file), "--experts": "small=10B,big=50B", "--budgets": "30B"} | {option: value}
    assert main(["bench", "routers", "--split", *(word for pair in given.items() for word in pair)]) == 1
    assert says in capsys.readouterr().err
