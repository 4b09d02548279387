from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array

from router.arrays import Vectors
from router.classifiers.classifier import temperature_for
from router.classifiers.lexicon import Grams, Reading
from router.classifiers.linear import Readings
from router.classifiers.neighbours import NeighbourClassifier, certain, fit_neighbours, propagate

LABELS = ("law", "math")


def around(center: int, count: int, *, spread: float = 0.15, seed: int = 0) -> Vectors:
    """Unit vectors near an axis of eight."""
    noise = np.random.default_rng([center, seed]).standard_normal((count, 8)) * spread
    vectors = noise + np.eye(8)[center]
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def two_groups(count: int, seed: int = 0) -> tuple[Vectors, NDArray[np.int64]]:
    vectors = np.vstack([around(0, count, seed=seed), around(1, count, seed=seed)])
    return vectors, np.repeat([0, 1], count)


def trained(k: int = 5) -> NeighbourClassifier:
    vectors, targets = two_groups(20)
    return fit_neighbours(vectors, certain(targets, 2), LABELS, k=k)


def read(vector: Vectors) -> Reading:
    return Reading(vector, Grams(np.array([], dtype=np.int64), np.array([], dtype=np.float32)))


def readings(vectors: Vectors) -> Readings:
    return Readings(vectors, csr_array((len(vectors), 1), dtype=np.float32))


def test_a_vector_gets_the_label_of_those_around_it() -> None:
    vectors, targets = two_groups(20, seed=1)
    found = [trained().probabilities(read(vector)) for vector in vectors]
    assert [int(probabilities.argmax()) for probabilities in found] == list(targets)
    np.testing.assert_allclose(np.sum(found, axis=1), 1.0)


def test_a_nearer_neighbour_counts_more() -> None:
    vectors = np.eye(3, dtype=np.float32)
    classifier = fit_neighbours(vectors, certain(np.array([0, 1, 1]), 2), LABELS, k=3)
    assert classifier.probabilities(read(np.array([0.8, 0.42, 0.42], dtype=np.float32))).argmax() == 0


def test_neighbours_that_agree_do_not_make_certain() -> None:
    assert trained().probabilities(read(around(0, 1, seed=2)[0])).max() < 1


def test_a_file_of_float16_gives_the_same_decisions() -> None:
    classifier = trained()
    for array in (classifier.vectors, classifier.distributions):
        assert np.array_equal(array.astype(np.float16).astype(np.float32), array)


def test_fewer_vectors_than_neighbours_all_vote() -> None:
    classifier = fit_neighbours(np.eye(2, dtype=np.float32), certain(np.array([0, 1]), 2), LABELS, k=15)
    assert classifier.probabilities(read(np.array([1, 0], dtype=np.float32))).argmax() == 0


def test_a_vector_opposite_to_all_is_undecided() -> None:
    classifier = fit_neighbours(np.eye(2, dtype=np.float32), certain(np.array([0, 1]), 2), LABELS)
    opposite = np.array([-0.6, -0.8], dtype=np.float32)
    np.testing.assert_allclose(classifier.probabilities(read(opposite)), 0.5)


def test_calibration_humbles_a_classifier_whose_neighbours_agree_on_the_wrong_label() -> None:
    vectors, targets = two_groups(40, seed=3)
    classifier, wrong = trained(), targets.copy()
    wrong[::4] = 1 - wrong[::4]
    humbled = replace(classifier, temperature=temperature_for(classifier.logits_of(readings(vectors)), wrong))
    confidences = [humbled.probabilities(read(vector)).max() for vector in vectors]
    assert np.mean(confidences) == pytest.approx(0.75, abs=0.03)
    for vector in vectors:
        assert humbled.probabilities(read(vector)).argmax() == classifier.probabilities(read(vector)).argmax()


def test_many_at_once_have_the_logits_of_each_alone() -> None:
    vectors, _ = two_groups(300, seed=5)
    classifier = trained()
    alone = np.log([classifier.probabilities(read(vector)) for vector in vectors])
    np.testing.assert_allclose(classifier.logits_of(readings(vectors)), alone, rtol=1e-4)


def test_labels_spread_from_a_seed_to_what_is_near_it() -> None:
    vectors, targets = two_groups(50)
    seed = [0, 1, 50, 51]
    found = propagate(vectors[seed], targets[seed], vectors, labels=2, k=3, min_agreement=0.6)
    known = found.any(axis=1)
    assert known.mean() > 0.9
    assert np.array_equal(found[known].argmax(axis=1), targets[known])
    np.testing.assert_allclose(found[known].sum(axis=1), 1.0, rtol=1e-5)


def test_rounds_reach_what_the_seed_alone_cannot_decide() -> None:
    """Two seeds at the ends of a chain of vectors, each of which is nearest to its two neighbours."""
    angles = np.linspace(0, np.pi / 2, 40)
    chain = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    ends, targets = chain[[0, 1, 38, 39]], np.array([0, 0, 1, 1])

    def decided(rounds: int) -> int:
        found = propagate(ends, targets, chain[2:38], labels=2, k=4, rounds=rounds, min_agreement=0.9)
        return int(found.any(axis=1).sum())

    assert decided(1) < decided(2)


def test_what_lies_between_stays_unlabelled() -> None:
    seed = np.eye(3, dtype=np.float32)
    between = np.full((1, 3), 1 / np.sqrt(3), dtype=np.float32)
    assert not propagate(seed, np.array([0, 1, 2]), between, labels=3).any()


def test_an_unlabelled_vector_is_not_held() -> None:
    distributions = certain(np.array([0, 1, 1]), 2)
    distributions[1] = 0
    assert len(fit_neighbours(np.eye(3, dtype=np.float32), distributions, LABELS).vectors) == 2


def test_the_same_vectors_give_the_same_labels() -> None:
    vectors, targets = two_groups(30)
    first, second = (propagate(vectors[::10], targets[::10], vectors, labels=2) for _ in range(2))
    assert np.array_equal(first, second)
