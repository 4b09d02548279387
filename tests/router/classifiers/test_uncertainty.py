import numpy as np
import pytest
from numpy.testing import assert_allclose

from router.classifiers.uncertainty import BITS, Signs, Uncertainty, centroids_of, distances_to, entropies

LANDMARKS = np.eye(3, dtype=np.float32)


def signs(count: int = 4096, seed: int = 0) -> Signs:
    """Each even from 0 to 1, and independent."""
    random = np.random.default_rng(seed)
    return Signs(*(random.random(count) for _ in range(3)))


def of(doubted: float = 0.05) -> Uncertainty:
    return Uncertainty.of(LANDMARKS, signs(), importance=np.ones(4096), doubted=doubted)


@pytest.mark.parametrize("doubted", [0.01, 0.05, 0.2])
def test_as_many_of_the_known_prompts_are_doubted_as_was_asked(doubted: float) -> None:
    made = of(doubted)
    assert (made.surprises(signs()) > made.max_surprise).mean() == pytest.approx(doubted, abs=0.001)
    assert (made.surprises(signs(seed=1)) > made.max_surprise).mean() == pytest.approx(doubted, rel=0.25)


def test_a_sign_that_a_share_of_prompts_shows_is_as_many_bits() -> None:
    made = of()
    assert_allclose(made.known[:, 1], 0.5, atol=0.03)
    assert_allclose(made.known[:, 3], 0.875, atol=0.02)
    for place in range(3):
        shown = [np.zeros(3) for _ in range(3)]
        shown[place] = made.known[place][[0, 2, 5]]
        assert_allclose(made.surprises(Signs(*shown)), [0, 2, 5], atol=0.02)


def test_signs_add_up_so_that_three_weak_ones_are_a_strong_one() -> None:
    made = of()
    half, much = np.array([0.75]), np.array([1 - 2.0**-6])
    assert_allclose(made.surprises(Signs(half, half, half)), 6, atol=0.2)
    assert_allclose(made.surprises(Signs(np.array([0.0]), much, np.array([0.0]))), 6, atol=0.3)


def test_beyond_everything_seen_the_surprise_goes_on_growing() -> None:
    made, none = of(), np.zeros(3)
    found = made.surprises(Signs(none, np.array([1.0, 1.5, 2.0]), none))
    assert found[0] >= BITS[-1] - 0.1
    assert found[1] > found[0] + 3
    assert_allclose(found[2] - found[1], found[1] - found[0], rtol=0.05)


def test_a_prompt_of_more_importance_counts_as_several() -> None:
    half = np.where(np.arange(4096) < 2048, 3.0, 1.0)
    sign = np.concatenate([np.linspace(0, 1, 2048), np.linspace(1, 2, 2048)])
    made = Uncertainty.of(LANDMARKS, Signs(sign, sign, sign), importance=half, doubted=0.05)
    assert made.known[0, 1] == pytest.approx(2 / 3, abs=0.01)


def test_one_prompt_is_doubted_as_it_is_among_many() -> None:
    made, random = of(), np.random.default_rng(4)
    vectors = random.normal(size=(200, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    chances = random.dirichlet(np.full(4, 0.3), 200)
    oddities = random.random(200)
    together = made.surprises(Signs(entropies(chances), distances_to(LANDMARKS, vectors), oddities))
    alone = [
        made.doubts(chance, vector, oddity)
        for chance, vector, oddity in zip(chances, vectors, oddities, strict=True)
    ]
    assert alone == (together > made.max_surprise).tolist()
    assert 0 < sum(alone) < 200


def test_equal_signs_are_no_error() -> None:
    same = Signs(*(np.full(50, 0.3) for _ in range(3)))
    made = Uncertainty.of(LANDMARKS, same, importance=np.ones(50), doubted=0.05)
    assert not (made.surprises(same) > made.max_surprise).any()


def test_entropy_is_none_where_it_is_certain_and_greatest_where_nothing_is_known() -> None:
    found = entropies(np.array([[1.0, 0.0], [0.5, 0.5], [0.9, 0.1]]))
    assert found[0] == pytest.approx(0)
    assert found[1] == pytest.approx(np.log(2))
    assert 0 < found[2] < found[1]


def test_a_distance_is_that_to_the_nearest_landmark() -> None:
    vectors = np.array([[1, 0, 0], [0.6, 0.8, 0], [-1, 0, 0]], dtype=np.float32)
    assert_allclose(distances_to(LANDMARKS, vectors), [0, 0.2, 1.0], atol=1e-6)


def test_every_category_that_occurs_has_its_centroids() -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(0, 0.05, (60, 8)).astype(np.float32)
    targets = np.repeat([0, 2], 30)
    vectors[np.arange(60), targets] += 1
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = centroids_of(vectors, targets, each=4, seed=1)
    assert found.shape == (8, 8)
    assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    assert (distances_to(found[:4], vectors[:30]) < 0.1).all()
    assert len(centroids_of(vectors[:3], targets[:3], each=4, seed=1)) == 3
