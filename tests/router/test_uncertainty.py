import numpy as np
import pytest

from router.uncertainty import BITS, Signs, Uncertainty, distances_to, entropies

LANDMARKS = np.eye(2, dtype=np.float32)


def signs(entropies: list[float], distances: list[float], oddities: list[float]) -> Signs:
    return Signs(np.array(entropies), np.array(distances), np.array(oddities))


def spread(count: int, seed: int = 0) -> Signs:
    random = np.random.default_rng(seed)
    return Signs(random.uniform(0, 3, count), random.uniform(0, 1, count), random.uniform(1, 5, count))


def of(known: Signs, doubted: float = 0.05) -> Uncertainty:
    return Uncertainty.of(LANDMARKS, known, importance=np.ones(len(known.entropies)), doubted=doubted)


@pytest.mark.parametrize("doubted", [0.01, 0.05, 0.2])
def test_the_share_that_was_asked_for_is_doubted(doubted: float) -> None:
    known = spread(2000)
    uncertainty = of(known, doubted)
    alarms = uncertainty.surprises(known) > uncertainty.max_surprise
    assert alarms.mean() == pytest.approx(doubted, abs=0.002)


def test_what_weighs_more_counts_more_among_the_doubted() -> None:
    known = spread(2000)
    importance = np.where(np.arange(2000) < 1000, 9.0, 1.0)
    uncertainty = Uncertainty.of(LANDMARKS, known, importance=importance, doubted=0.05)
    alarms = uncertainty.surprises(known) > uncertainty.max_surprise
    assert importance[alarms].sum() / importance.sum() == pytest.approx(0.05, abs=0.005)


def test_signs_are_worth_the_bits_of_how_few_known_prompts_show_them_and_add_up() -> None:
    known = spread(20_000)
    shares = np.array([0.0, 0.5, 0.75, 1 - 2.0 ** -int(BITS[-1])])
    entropy, distance, oddity = (np.quantile(sign, shares) for sign in known.each)
    found = of(known).surprises(Signs(entropy, distance[[1, 0, 0, 0]], oddity[[1, 0, 0, 0]]))
    assert found.tolist() == pytest.approx([2, 1, 2, BITS[-1]], abs=0.1)


def test_beyond_all_known_prompts_surprise_goes_on_growing() -> None:
    found = of(spread(2000)).surprises(signs([0.0] * 3, [2.0, 4.0, 8.0], [1.0] * 3))
    assert BITS[-1] < found[0] < found[1] < found[2]


def test_where_all_is_easily_told_apart_a_likely_label_is_still_believed() -> None:
    sure = spread(2000)
    uncertainty = of(Signs(sure.entropies / 1000, sure.distances, sure.oddities))
    likely, torn = np.array([0.8, 0.2]), np.full(8, 1 / 8)
    assert not uncertainty.doubts(likely, LANDMARKS[0], oddity=2.0)
    assert uncertainty.doubts(torn, LANDMARKS[0], oddity=2.0)


def test_the_distance_is_to_the_nearest_landmark() -> None:
    vectors = np.array([[1, 0], [-1, 0], [0.6, 0.8]], dtype=np.float32)
    assert distances_to(LANDMARKS, vectors).tolist() == pytest.approx([0.0, 1.0, 0.2], abs=1e-6)


def test_an_even_choice_has_the_greatest_entropy() -> None:
    found = entropies(np.array([[1.0, 0.0], [0.5, 0.5]]))
    assert found.tolist() == pytest.approx([0.0, np.log(2)])
