import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.sparse import csr_array

from router.arrays import Floats
from router.classifiers.crossfit import FOLDS
from router.classifiers.lexicon import Grams, Reading
from router.classifiers.linear import Readings
from router.mapping.clusters import EASE, Clusters, cluster, nearest, points_of
from router.mapping.expected_scores import ExpectedScores, fit_expected
from router.mapping.finer import Graded, blind, finer_help, mean_gain, table_of
from tests.router.mapping.hidden_groups import GROUPS, finer, hidden

NAN = float("nan")


def expected_scores() -> ExpectedScores:
    """Of nobody: clusters of these are given the predicted scores."""
    readings = Readings(np.eye(2, dtype=np.float32), csr_array((2, 4), dtype=np.float32))
    return fit_expected(readings, np.zeros((2, 2)), np.zeros(2))


def graded(differ: float, count: int = 400) -> Graded:
    """One label. What was predicted of a prompt says who of two is right on it, as far as they ``differ``."""
    random = np.random.default_rng(3)
    first = random.random(count) < 0.5
    chance = np.where(first[:, None], [0.5 + differ, 0.5 - differ], [0.5 - differ, 0.5 + differ])
    scores = np.where(first[:, None], [0.6, 0.4], [0.4, 0.6]) + random.normal(0, 0.02, (count, 2))
    grades = (random.random((count, 2)) < chance).astype(np.float64)
    return Graded(
        ["a"] * count, scores, grades, np.arange(count) % FOLDS, ["one", "two"], np.array([5.0, 6.0])
    )


def test_a_label_that_hides_two_groups_is_parted() -> None:
    found = graded(0.45)
    assert finer_help(found, ["a"])
    clusters = cluster(expected_scores(), found.labels, found.scores, size=200)
    assert clusters.names == ("a/0", "a/1")
    table = table_of(found, clusters, ["a"])
    assert set(table.means.argmax(axis=1)) == {0, 1}


def test_where_there_is_nothing_to_find_the_labels_stay() -> None:
    same = graded(0.0)
    best = Graded(
        same.labels, same.scores, np.tile([1.0, 0.0], (400, 1)), same.folds, same.experts, same.parameters
    )
    assert not finer_help(best, ["a"])


def test_few_prompts_are_not_parted() -> None:
    few = graded(0.45)[np.arange(12)]
    assert not finer_help(few, ["a"])


def test_training_finds_the_groups_and_the_map_is_read_at_them() -> None:
    router = finer()
    assert router.categories == ("chores", "general")
    unseen = [example for example in hidden(20, seed=2) if example.category == "chores"]
    decisions = [router.decide(example.prompt) for example in unseen]
    assert {decision.category for decision in decisions} == {"chores"}
    assert all(decision.cluster.startswith("chores/") for decision in decisions)
    right = [
        decision.expert == example.id.split("/")[1]
        for decision, example in zip(decisions, unseen, strict=True)
    ]
    assert np.mean(right) > 0.95
    assert set(GROUPS) <= set(router.experts)


def clusters_of_two() -> Clusters:
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.5, 0.5]])
    return cluster(expected_scores(), ["a", "a", "a", "a", "b"], scores, size=2)


def test_a_label_with_too_few_prompts_has_no_finer_categories() -> None:
    made = clusters_of_two()
    assert made.names == ("a/0", "a/1")
    assert made.labels == {"a/0": "a", "a/1": "a"}
    reading = Reading(
        np.array([1, 0], dtype=np.float32),
        Grams(np.array([], dtype=np.int64), np.array([], dtype=np.float32)),
    )
    assert made.of("b", reading) == "b"
    assert made.of("never seen", reading) == "never seen"
    assert made.rows(["b", "a", "a"], np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])) == ["b", *_named(made)]


def _named(made: Clusters) -> list[str]:
    """The one where the first expert does better, then the other."""
    order = np.argsort(-made.centroids[:, 0])
    return [made.names[index] for index in order]


def test_one_prompt_is_in_the_cluster_that_it_is_in_among_many() -> None:
    router = finer()
    clusters, prompts = router.artifact.clusters, [example.prompt for example in hidden(15, seed=4)]
    assert clusters is not None
    readings = [router.read(prompt) for prompt in prompts]
    many = Readings(
        np.stack([reading.vector for reading in readings]), router.artifact.lexicon.matrix(prompts)
    )
    labels = ["chores"] * len(prompts)
    together = clusters.rows(labels, clusters.expected.many(many))
    assert together == [clusters.of("chores", reading) for reading in readings]
    assert len(set(together)) > 1


def test_clusters_look_at_differences_and_little_at_ease() -> None:
    points = points_of(np.array([[0.2, 0.4], [0.7, 0.9]]))
    assert_allclose(points, [[-0.1, 0.1, EASE * 0.3], [-0.1, 0.1, EASE * 0.8]])
    assert nearest(points, np.array([[-0.1, 0.1, 0.0], [0.1, -0.1, 0.0]])).tolist() == [0, 0]


def test_equal_points_make_clusters_without_an_error() -> None:
    made = cluster(expected_scores(), ["a"] * 10, np.full((10, 2), 0.5), size=2)
    assert set(made.rows(["a"] * 3, np.full((3, 2), 0.5))) <= set(made.names)
    assert np.isfinite(made.centroids).all()


def readings(count: int) -> Readings:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(count, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Readings(vectors.astype(np.float32), csr_array((count, 4), dtype=np.float32))


def test_expected_scores_follow_what_can_be_known() -> None:
    told = readings(600)
    easy = told.vectors[:, 0] > 0
    grades = np.stack([easy, ~easy], axis=1).astype(np.float64)
    levels = np.array([0.5, 0.5])
    unseen, found = readings(900)[np.arange(600, 900)], fit_expected(told, grades, levels)
    said: Floats = found.many(unseen)
    assert ((said[:, 0] > said[:, 1]) == (unseen.vectors[:, 0] > 0)).mean() > 0.9
    nothing = Grams(np.array([], dtype=np.int64), np.array([], dtype=np.float32))
    for row in range(5):
        assert_allclose(found.values(Reading(unseen.vectors[row], nothing)), said[row], rtol=1e-4)


def test_experts_graded_on_different_prompts_differ_by_what_both_were_graded_on() -> None:
    """The second does as the first does, and was not graded where prompts are easy."""
    told = readings(400)
    easy = told.vectors[:, 0] > 0
    first = np.random.default_rng(1).random(400) < np.where(easy, 0.9, 0.3)
    second = np.where(easy, NAN, first)
    levels = np.array([0.6, 0.6])
    found = fit_expected(told, np.stack([first, second], axis=1), levels).many(told)
    assert_allclose(found[:, 0], found[:, 1], atol=1e-4)
    assert found[easy].mean() > found[~easy].mean() + 0.2
    alone = fit_expected(told, first[:, None].astype(np.float64), levels[:1]).many(told)
    assert_allclose(found[:, 0], alone[:, 0], atol=1e-4)


def test_an_expert_graded_alone_has_no_advantage_to_tell() -> None:
    told = readings(100)
    grades = np.full((100, 2), NAN)
    grades[:50, 0], grades[50:, 1] = 1.0, 0.0
    found = fit_expected(told, grades, np.array([0.5, 0.5])).many(told)
    assert_allclose(found[:, 0], found[:, 1], atol=1e-6)


MEANS, PARAMETERS = np.array([0.4, 0.3, 0.8]), np.array([10.0, 20.0, 30.0])


@pytest.mark.parametrize(("budget", "score"), [(10, 0.4), (20, 0.6), (15, 0.5), (30, 0.8), (45, 0.8)])
def test_the_blind_mix_is_the_best_of_two_by_lot_within_the_budget(budget: float, score: float) -> None:
    assert blind(MEANS, PARAMETERS, budget) == pytest.approx(score)


def test_a_dearer_expert_that_is_worse_is_never_mixed_in() -> None:
    assert blind(np.array([0.9, 0.5]), np.array([1.0, 2.0]), 1.5) == pytest.approx(0.9)


def test_knowing_nothing_of_a_prompt_gains_nothing_over_the_blind_mix() -> None:
    grades, parameters = np.array([[0.0, 1.0], [1.0, 1.0]] * 20), np.array([1.0, 2.0])
    nothing = np.tile(grades.mean(axis=0), (40, 1))
    assert mean_gain(nothing, grades, parameters) == pytest.approx(0, abs=1e-9)
    assert mean_gain(nothing, grades, parameters * 0.001) == pytest.approx(0, abs=1e-9)
    assert mean_gain(grades, grades, parameters) == pytest.approx(0.125, abs=0.02)
