from dataclasses import replace

import numpy as np
from scipy.sparse import csr_array

from router.arrays import Floats
from router.classifiers.crossfit import FOLDS, Corpus, apart
from router.classifiers.lexicon import Lexicon
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


def test_the_lexicon_has_not_seen_the_prompts_that_are_spoken_of() -> None:
    texts = [f"word{number} the" for number in range(6)]
    whole = Lexicon.of(texts)
    given = corpus([0, 0, 1, 1, 2, 2])
    given = replace(given, readings=Readings(given.vectors, whole.matrix(texts), whole))
    plain = np.array([False] * 5 + [True])
    seen: list[list[str]] = []

    def learn(others: Corpus, readings: Readings) -> Floats:
        assert others.readings.lexicon is readings.lexicon
        assert readings.lexicon is not None
        learnt = [texts[target] for target in others.targets if not plain[target]]
        assert np.array_equal(readings.lexicon.rarity, Lexicon.of(learnt).rarity)
        told = [texts[int(number)] for number in readings.vectors[:, 0]]
        np.testing.assert_allclose(readings.grams.data, readings.lexicon.matrix(told).data, rtol=1e-5)
        seen.append(learnt)
        return np.zeros(len(readings))

    apart(replace(given, plain=plain), learn)
    assert len(seen) == 3
