import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.sparse import csr_array

from router.arrays import Floats, Targets
from router.classifiers.classifier import fit_linear, temperature_for
from router.classifiers.lexicon import Grams, Reading
from router.classifiers.linear import Readings, fit_ridge, fit_softmax, log_softmax

BUCKETS = 40


def random_readings(count: int, dimension: int = 6, seed: int = 0) -> Readings:
    random = np.random.default_rng(seed)
    grams = random.normal(size=(count, BUCKETS)) * (random.random((count, BUCKETS)) < 0.2)
    grams[:, 30:] = 0  # buckets that no prompt has
    return Readings(
        random.normal(size=(count, dimension)).astype(np.float32), csr_array(grams.astype(np.float32))
    )


def single(readings: Readings, row: int) -> Reading:
    grams = readings.grams.toarray()[row]
    buckets = np.flatnonzero(grams)
    return Reading(readings.vectors[row], Grams(buckets, grams[buckets]))


def separable(count: int = 60) -> tuple[Readings, Targets]:
    """Three labels: two told by the vector, the third by a gram alone."""
    random, targets = np.random.default_rng(1), np.arange(count) % 3
    vectors = random.normal(0, 0.1, (count, 6))
    vectors[targets == 1, 0] += 1
    vectors[targets == 0, 1] += 1
    vectors[targets == 2, :2] += 0.5
    grams = np.zeros((count, BUCKETS))
    grams[targets == 2, 7] = 1
    return Readings(vectors.astype(np.float32), csr_array(grams.astype(np.float32))), targets


def test_one_prompt_has_the_values_that_it_has_among_many() -> None:
    readings, random = random_readings(50), np.random.default_rng(3)
    linear = fit_ridge(readings, random.normal(size=(50, 4)), strength=2.0)
    many = linear.many(readings)
    assert many.shape == (50, 4)
    for row in range(50):
        assert_allclose(linear.values(single(readings, row)), many[row], rtol=1e-4, atol=1e-5)


def test_ridge_finds_the_closed_form_solution() -> None:
    readings, random = random_readings(80), np.random.default_rng(3)
    targets, strength = random.normal(size=(80, 3)), 3.0
    inputs = np.hstack([readings.vectors, readings.grams.toarray()]).astype(np.float64)
    exact = np.linalg.solve(inputs.T @ inputs + strength * np.eye(inputs.shape[1]), inputs.T @ targets)
    found = fit_ridge(readings, targets, strength=strength)
    assert_allclose(found.weights.T, exact[:6], atol=1e-4)
    assert_allclose(found.gram_weights, exact[6:], atol=1e-3)  # kept in float16
    assert not found.bias.any()


def test_ridge_of_nothing_known_expects_nothing() -> None:
    readings = random_readings(10)
    found = fit_ridge(readings, np.zeros((10, 2)), strength=1.0)
    assert not found.weights.any()
    assert not found.gram_weights.any()


def test_softmax_tells_what_can_be_told_by_vectors_or_by_grams() -> None:
    readings, targets = separable()
    linear = fit_softmax(readings, targets, 3, importance=np.ones(60))
    assert (linear.many(readings).argmax(axis=1) == targets).all()
    assert (linear.gram_weights[7].argmax(), linear.gram_weights[8].any()) == (2, False)


def test_softmax_is_at_the_minimum_of_its_loss() -> None:
    """There the importance-weighted errors, over the inputs, are what the penalty pulls."""
    readings, strength = random_readings(90), 10.0
    random = np.random.default_rng(5)
    targets, importance = random.integers(0, 3, 90), random.random(90) + 0.5
    found = fit_softmax(readings, targets, 3, importance=importance, strength=strength)
    error = np.exp(log_softmax(found.many(readings))) - np.eye(3)[targets]
    weighted = error * importance[:, None]
    assert_allclose(readings.vectors.T @ weighted, -found.weights.T / strength, atol=0.05)
    assert_allclose(weighted.sum(axis=0), 0, atol=0.05)


def test_a_prompt_of_no_importance_teaches_nothing() -> None:
    readings, targets = separable()
    wrong, importance = targets.copy(), np.ones(60)
    wrong[:12], importance[:12] = (targets[:12] + 1) % 3, 0.0
    one = fit_softmax(readings, wrong, 3, importance=importance)
    rest = np.arange(12, 60)
    other = fit_softmax(readings[rest], targets[rest], 3, importance=np.ones(48))
    assert_allclose(one.weights, other.weights, atol=1e-2)


def test_a_label_that_no_prompt_has_is_improbable_and_not_an_error() -> None:
    readings, targets = separable()
    classifier = fit_linear(readings, targets, ("a", "b", "c", "never"), importance=np.ones(60))
    probabilities = classifier.probabilities(single(readings, 0))
    assert probabilities.sum() == pytest.approx(1)
    assert probabilities.argmin() == 3


def test_a_temperature_makes_overconfident_logits_as_sure_as_they_are_right() -> None:
    random = np.random.default_rng(2)
    targets = random.integers(0, 2, 2000)
    said = np.where(random.random(2000) < 0.8, targets, 1 - targets)
    logits: Floats = 6.0 * np.eye(2)[said]
    temperature = temperature_for(logits, targets)
    assert temperature == pytest.approx(6 / np.log(0.8 / 0.2), rel=0.1)
    assert np.exp(log_softmax(logits / temperature)).max(axis=1).mean() == pytest.approx(0.8, abs=0.02)


def test_logits_that_are_never_wrong_do_not_ask_for_a_temperature_of_zero() -> None:
    assert temperature_for(6.0 * np.eye(2)[[0, 1, 1]], np.array([0, 1, 1])) == pytest.approx(0.5, abs=0.01)


def test_readings_are_taken_and_joined_by_rows() -> None:
    readings = random_readings(8)
    both = readings[np.array([3, 1])] + readings[np.array([5])]
    assert len(both) == 3
    assert np.array_equal(both.vectors, readings.vectors[[3, 1, 5]])
    assert np.array_equal(both.grams.toarray(), readings.grams.toarray()[[3, 1, 5]])
