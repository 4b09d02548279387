import numpy as np
from scipy.sparse import csr_array

from router.arrays import Floats
from router.classifiers.crossfit import FOLDS, Corpus, apart
from router.classifiers.linear import Readings


def corpus(folds: list[int]) -> Corpus:
    """Each prompt's vector is its number."""
    count = len(folds)
    return Corpus(
        Readings(np.arange(count, dtype=np.float32)[:, None], csr_array((count, 1), dtype=np.float32)),
        np.arange(count),
        np.ones(count),
        np.zeros(count, dtype=np.bool_),
        np.array(folds),
        np.arange(2 * count, dtype=np.float64).reshape(count, 2),
    )


def test_a_prompt_is_never_in_what_speaks_of_it() -> None:
    asked: list[set[int]] = []

    def learn(others: Corpus, readings: Readings) -> Floats:
        learnt, told = set(others.targets.tolist()), set(readings.vectors[:, 0].astype(int).tolist())
        assert not learnt & told
        assert learnt | told == set(range(10))
        assert np.array_equal(others.vectors[:, 0], others.targets)
        assert np.array_equal(others.grades[:, 0], 2 * others.targets)
        asked.append(told)
        return readings.vectors.astype(np.float64)

    whole = corpus([n % FOLDS for n in range(10)])
    assert apart(whole, learn)[:, 0].tolist() == list(range(10))
    assert asked == [{n, n + 5} for n in range(5)]


def test_what_is_said_stands_in_the_order_of_the_prompts() -> None:
    said = apart(
        corpus([4, 0, 0, 2, 4, 1]), lambda others, readings: np.hstack([readings.vectors, -readings.vectors])
    )
    assert said.tolist() == [[n, -n] for n in range(6)]


def test_a_fold_without_prompts_is_not_asked() -> None:
    calls: list[int] = []

    def learn(others: Corpus, readings: Readings) -> Floats:
        calls.append(len(readings))
        return np.zeros(len(readings))

    apart(corpus([0, 0, 3]), learn)
    assert calls == [2, 1]
