import numpy as np
import pytest

from router.mapping.metrics import CategoryResult, bootstrap, calibration_error, macro_f1

TRUTH = np.array([0, 0, 0, 1, 1, 2])
PREDICTED = np.array([0, 0, 1, 1, 0, 0])


def test_precision_recall_and_f1_are_those_of_one_category() -> None:
    assert CategoryResult.of(TRUTH, PREDICTED, 0) == CategoryResult(3, 2 / 4, 2 / 3, 4 / 7)
    assert CategoryResult.of(TRUTH, PREDICTED, 2) == CategoryResult(1, 0.0, 0.0, 0.0)
    assert CategoryResult.of(TRUTH, PREDICTED, 3) == CategoryResult(0, 0.0, 0.0, 0.0)


def test_macro_f1_is_the_mean_over_the_labels_that_occur() -> None:
    assert macro_f1(TRUTH, PREDICTED) == pytest.approx((4 / 7 + 1 / 2 + 0) / 3)


def test_the_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    """Two bins: 0.9 sure and 3 of 4 right; 0.5 sure and all right."""
    confidence = np.array([0.9, 0.9, 0.9, 0.9, 0.5, 0.5])
    right = np.array([True, True, True, False, True, True])
    assert calibration_error(confidence, right) == pytest.approx(4 / 6 * 0.15 + 2 / 6 * 0.5)
    assert calibration_error(np.ones(3), np.ones(3, dtype=np.bool_)) == 0


def test_an_interval_is_as_wide_as_the_standard_error_says() -> None:
    values = np.random.default_rng(0).normal(5, 2, 400)
    found = bootstrap(lambda rows: float(values[rows].mean()), 400, seed=1)
    assert found.value == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * 2 / 20, rel=0.15)
    assert found == bootstrap(lambda rows: float(values[rows].mean()), 400, seed=1)
    assert str(found) == f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def test_a_constant_difference_has_no_spread() -> None:
    values = np.random.default_rng(0).normal(size=50)
    found = bootstrap(lambda rows: float((values[rows] + 2 - values[rows]).mean()), 50, seed=0)
    assert (found.value, found.low, found.high) == pytest.approx((2, 2, 2))
