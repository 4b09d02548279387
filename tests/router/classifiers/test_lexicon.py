import numpy as np
import pytest

from router.classifiers.lexicon import BUCKETS, Grams, Lexicon

TEXTS = ["Whisk the flour.", "Anchor the keel!", "the the the", "∑ x² ≤ 4"]


def lexicon() -> Lexicon:
    return Lexicon.of(TEXTS)


def same(one: Grams, other: Grams) -> bool:
    return np.array_equal(one.buckets, other.buckets) and np.array_equal(one.weights, other.weights)


@pytest.mark.parametrize(
    "text", [*TEXTS, "", " ", "\n", "a", "\x00", "\u200b", "日本語 です", "e\u0301", "\ud800\udc00 \ud800"]
)
def test_the_same_text_has_the_same_grams_of_length_one(text: str) -> None:
    grams = lexicon().grams(text)
    assert same(grams, Lexicon.of(TEXTS).grams(text))
    assert np.linalg.norm(grams.weights) == pytest.approx(1.0)
    assert (np.diff(grams.buckets) > 0).all()
    assert grams.buckets.min() >= 0
    assert grams.buckets.max() < BUCKETS


def test_case_and_the_kind_of_space_do_not_count() -> None:
    assert same(lexicon().grams("Whisk  THE\n\tflour. "), lexicon().grams("whisk the flour."))


def test_no_run_goes_across_words() -> None:
    both, one, other = (set(lexicon().grams(text).buckets) for text in ("keel flour", "keel", "flour"))
    assert both == one | other
    assert same(lexicon().grams("keel flour"), lexicon().grams("flour keel"))


def test_runs_are_of_two_to_five_characters_and_may_have_the_space_around_a_word() -> None:
    """Of `` ab ``: two of them with two characters at its ends, ``ab``, two of three, and the whole."""
    assert len(lexicon().grams("ab").buckets) == 6
    assert len(lexicon().grams("abcdefgh").buckets) == 9 + 8 + 7 + 6


def test_what_is_in_all_prompts_weighs_less_than_what_is_rare() -> None:
    made = Lexicon.of(["the keel", "the reef", "the mast", "the knot"])
    text = made.grams("the keel")
    weight = dict(zip(text.buckets.tolist(), text.weights.tolist(), strict=True))
    the, keel = (set(made.grams(word).buckets.tolist()) for word in ("the", "keel"))
    assert max(weight[bucket] for bucket in the) < min(weight[bucket] for bucket in keel)


def test_what_comes_more_often_weighs_more_but_not_as_often_more() -> None:
    made = lexicon()
    grams = made.grams("keel keel keel keel reef")
    weight = dict(zip(grams.buckets.tolist(), grams.weights.tolist(), strict=True))
    keel = next(iter(set(made.grams("keel").buckets.tolist()) - set(made.grams("reef").buckets.tolist())))
    once = made.grams("keel reef")
    alone = dict(zip(once.buckets.tolist(), once.weights.tolist(), strict=True))
    assert alone[keel] < weight[keel] < 4 * alone[keel]


def test_of_a_huge_text_only_the_beginning_is_read() -> None:
    beginning = "word " * 2000
    assert same(lexicon().grams(beginning + "zebra " * 200_000), lexicon().grams(beginning))


def test_a_matrix_has_each_texts_grams_as_its_row() -> None:
    made = lexicon()
    matrix = made.matrix(TEXTS)
    assert matrix.shape == (len(TEXTS), BUCKETS)
    for row, text in zip(matrix.toarray(), TEXTS, strict=True):
        grams = made.grams(text)
        assert np.array_equal(np.flatnonzero(row), grams.buckets)
        assert np.array_equal(row[grams.buckets], grams.weights)


def test_its_rarities_survive_a_file_of_float16() -> None:
    rarity = lexicon().rarity
    assert np.array_equal(rarity.astype(np.float16).astype(np.float32), rarity)


def test_what_is_written_as_nothing_before_is_odd() -> None:
    made = Lexicon.of(["the keel of the ship", "the reef and the mast", "the knot of the jib"] * 30)
    known, strange = (made.oddity(made.grams(text)) for text in ("the keel and the reef", "∮ §§ ⟨ψ|φ⟩"))
    assert 0 < known < strange
    grams = made.matrix(["the keel and the reef", "∮ §§ ⟨ψ|φ⟩"])
    np.testing.assert_allclose(made.oddities(grams), [known, strange], rtol=1e-4)


def test_a_matrix_of_grams_says_what_lexicon_its_prompts_make() -> None:
    found = Lexicon.of_grams(lexicon().matrix(TEXTS[:2]))
    assert np.array_equal(found.rarity, Lexicon.of(TEXTS[:2]).rarity)


def test_grams_are_weighed_anew_as_another_lexicon_weighs_them() -> None:
    other = Lexicon.of(TEXTS[:2])
    again = other.reweighed(lexicon().matrix([*TEXTS, ""]), lexicon())
    made = other.matrix([*TEXTS, ""])
    assert np.array_equal(again.indices, made.indices)
    np.testing.assert_allclose(again.data, made.data, rtol=1e-5)
