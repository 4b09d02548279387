from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import MappingError
from router.mapping.score_table import ScoreTable

NAN = float("nan")


def table(
    prompts: Sequence[tuple[str, Sequence[float]]],
    experts: Sequence[str] = ("small", "large"),
    categories: Sequence[str] = ("law", "math"),
    prior: float = 20.0,
    weights: Sequence[float] | None = None,
    **parents: str,
) -> ScoreTable:
    """``parents``: ``math_0="math"`` is the finer category math/0."""
    return ScoreTable.from_grades(
        [category for category, _ in prompts],
        np.array(weights if weights is not None else [1.0] * len(prompts)),
        np.array([grades for _, grades in prompts], dtype=np.float64),
        experts=experts,
        parameters=[float(size) for size in range(1, len(experts) + 1)],
        categories=categories,
        parents={finer.replace("_", "/"): label for finer, label in parents.items()},
        prior=prior,
    )


def mean(found: ScoreTable, category: str, expert: str) -> float:
    return float(found.means[found.categories.index(category), found.experts.index(expert)])


def test_where_all_are_graded_it_is_the_plain_mean_shrunk() -> None:
    found = table([("law", (1, 0))] * 10 + [("math", (0, 1))] * 30)
    assert found.shares.tolist() == [0.25, 0.75]
    assert found.counts.tolist() == [[10, 10], [30, 30]]
    for expert, law, math in (("small", 10, 0), ("large", 0, 30)):
        overall = (law + math) / 40
        assert mean(found, "law", expert) == pytest.approx((law + 20 * overall) / 30)
        assert mean(found, "math", expert) == pytest.approx((math + 20 * overall) / 50)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b"]), st.lists(st.sampled_from([0, 0.5, 1]), min_size=3, max_size=3)
        ),
        min_size=1,
    )
)
def test_a_finer_category_is_drawn_to_its_label_and_that_to_all_prompts(
    prompts: list[tuple[str, list[float]]],
) -> None:
    graded = [(f"math/{finer}", grades) for finer, grades in prompts] + [("law", [0.0, 1.0, 1.0])]
    found = table(graded, ("x", "y", "z"), ("law", "math/a", "math/b"), prior=5, math_a="math", math_b="math")
    everything = np.array([grades for _, grades in graded])
    math = (everything[:-1].sum(axis=0) + 5 * everything.mean(axis=0)) / (len(prompts) + 5)
    for row, finer in enumerate(("math/a", "math/b"), 1):
        own = np.array([grades for name, grades in graded if name == finer]).reshape(-1, 3)
        assert found.means[row] == pytest.approx((own.sum(axis=0) + 5 * math) / (len(own) + 5))


def test_who_was_graded_on_hard_prompts_only_does_not_look_worse() -> None:
    easy = [("law", (0.9, NAN))] * 200
    hard = [("law", (0.2, 0.3))] * 200
    found = table(easy + hard)
    assert mean(found, "law", "large") - mean(found, "law", "small") == pytest.approx(0.1, abs=0.01)
    assert mean(found, "law", "small") == pytest.approx(0.55, abs=0.03)


def test_an_advantage_reaches_categories_an_expert_was_not_graded_in() -> None:
    found = table([("law", (0.2, 0.4))] * 100 + [("math", (0.6, NAN))] * 100)
    assert mean(found, "math", "large") - mean(found, "math", "small") == pytest.approx(0.2)
    assert found.counts[1].tolist() == [100, 0]
    assert found.errors[1, 1] > 2 * found.errors[1, 0]


def test_prompts_graded_once_are_compared_within_their_category() -> None:
    """As feedback on routed traffic is: an expert that gets the hard category is not the worse for it."""
    law = [("law", (0.9, NAN))] * 190 + [("law", (NAN, 1.0))] * 10
    math = [("math", (0.1, NAN))] * 10 + [("math", (NAN, 0.2))] * 190
    found = table(law + math)
    for category in ("law", "math"):
        assert mean(found, category, "large") - mean(found, category, "small") == pytest.approx(0.1)


def test_a_category_without_graded_prompts_is_its_label_and_keeps_a_share() -> None:
    prompts = [("math/0", (0.0, 1.0))] * 50
    found = table(prompts, categories=("general", "math/0", "math/1"), math_0="math", math_1="math", prior=10)
    assert mean(found, "math/1", "large") == pytest.approx(1)
    assert mean(found, "general", "large") == pytest.approx(1)
    assert found.shares == pytest.approx(np.array([0.5, 50, 0.5]) / 51)
    assert found.errors[1, 1] < found.errors[2, 1]


def test_an_ungraded_prompt_counts_in_the_shares_and_a_light_one_less() -> None:
    prompts = [("law", (1.0, 0.0)), ("law", (NAN, NAN)), ("math", (0.0, 1.0)), ("math", (1.0, 1.0))]
    found = table(prompts, weights=[1, 1, 1, 0], prior=1)
    assert found.shares == pytest.approx([2 / 3, 1 / 3])
    assert mean(found, "math", "small") == pytest.approx((0 + 0.5) / 2)


def test_more_prompts_make_a_mean_surer_and_none_makes_it_certain() -> None:
    few, many = (table([("law", (1, 1))] * count + [("math", (1, 1))] * 5) for count in (5, 500))
    assert 0 < many.errors[0, 0] < few.errors[0, 0]


def test_an_expert_without_a_grade_is_an_error() -> None:
    with pytest.raises(MappingError, match="no prompt has a score of expert 'large'"):
        table([("law", (1, NAN))])


def test_experts_that_nothing_compares_are_an_error() -> None:
    with pytest.raises(MappingError, match="nothing compares 'large' with 'small'"):
        table([("law", (1, NAN)), ("math", (NAN, 1))])


def test_experts_are_compared_by_way_of_a_third() -> None:
    prompts = [("law", (0.2, 0.3, NAN))] * 9 + [("math", (NAN, 0.3, 0.4))] * 9
    found = table(prompts, experts=("a", "b", "c"))
    assert found.means[0] - found.means[0, 0] == pytest.approx([0, 0.1, 0.2])


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        ([("art", (1, 1))], {}, "category 'art'"),
        ([("law", (1, 2))], {}, "from 0 to 1"),
        ([("law", (1,))], {}, "shape"),
        ([("law", (1, 1))], {"weights": [-1.0]}, "weight"),
        ([("law", (1, 1))], {"prior": 0}, "prior"),
        ([("law", (1, 1))], {"experts": ("a", "a")}, "comes twice"),
    ],
)
def test_what_is_wrong_is_said(
    prompts: list[tuple[str, tuple[float, ...]]], options: dict[str, object], message: str
) -> None:
    with pytest.raises(MappingError, match=message):
        table(prompts, **options)  # type: ignore[arg-type]


def test_a_table_by_hand_is_checked() -> None:
    one = np.ones((1, 1))
    made = (np.array([7.0]), np.array([1.0]), one / 2, one / 9, one.astype(np.int64))
    assert repr(ScoreTable(("law",), ("a",), *made)) == "<ScoreTable 1 categories x 1 experts, 1 grades>"
    with pytest.raises(MappingError, match="means has shape"):
        ScoreTable(("law", "math"), ("a",), made[0], np.array([0.5, 0.5]), *made[2:])
    with pytest.raises(MappingError, match=r"shares add up to 0\.5"):
        ScoreTable(("law",), ("a",), made[0], np.array([0.5]), *made[2:])
    with pytest.raises(MappingError, match="'a' has 0 B parameters"):
        ScoreTable(("law",), ("a",), np.array([0.0]), *made[1:])
    with pytest.raises(MappingError, match="every category needs a mean"):
        ScoreTable(("law",), ("a",), *made[:2], one * NAN, *made[3:])
    with pytest.raises(MappingError, match="at least one category"):
        ScoreTable((), ("a",), *made)


def test_a_finer_category_is_drawn_to_what_was_predicted_of_its_prompts() -> None:
    grades = np.array([[1.0, 0.0]] * 10 + [[0.0, 1.0]] * 30)
    predicted = np.array([[0.7, 0.4]] * 5 + [[0.5, 0.2]] * 5 + [[0.1, 0.9]] * 30)
    found = ScoreTable.from_grades(
        ["math/0"] * 10 + ["math/1"] * 30,
        np.ones(40),
        grades,
        experts=["small", "large"],
        parameters=[1.0, 2.0],
        categories=["law", "math/0", "math/1"],
        parents={"math/0": "math", "math/1": "math"},
        expected=predicted,
        finer_prior=300.0,
    )
    assert mean(found, "math/0", "small") == pytest.approx((10 + 300 * 0.6) / 310)
    assert mean(found, "math/0", "large") == pytest.approx(300 * 0.3 / 310)
    assert mean(found, "math/1", "large") == pytest.approx((30 + 300 * 0.9) / 330)
    assert mean(found, "law", "small") == pytest.approx(0.25)  # nothing is known but what all prompts say
    assert (found.errors[1] < found.errors[0]).all()


def test_without_a_prompt_a_finer_category_is_its_label() -> None:
    found = ScoreTable.from_grades(
        ["math/0"] * 10,
        np.ones(10),
        np.array([[1.0, 0.0]] * 10),
        experts=["small", "large"],
        parameters=[1.0, 2.0],
        categories=["math/0", "math/1"],
        parents={"math/0": "math", "math/1": "math"},
        expected=np.full((10, 2), 0.5),
    )
    assert mean(found, "math/1", "small") == pytest.approx(1.0)
    assert found.shares[1] == pytest.approx(0.5 / 10.5)


def test_the_error_of_a_maps_score_is_what_redraws_of_its_prompts_have() -> None:
    """Forty rows of some 25 prompts in four labels, predicted by other prompts' grades and shrunk to that."""
    random = np.random.default_rng(0)
    labels = [f"l{number}" for number in range(4)]
    parents = {f"{label}/{number}": label for label in labels for number in range(10)}
    truth = random.uniform(0.2, 0.8, (len(parents), 2))
    fixed = random.integers(0, 2, len(parents))
    scores, printed = [], []
    for _ in range(300):
        rows = random.integers(0, len(parents), 1000)
        hardness = random.uniform(size=(1000, 1))  # a prompt is hard for both experts, or for none
        grades = (hardness < truth[rows]).astype(np.float64)
        halves = np.arange(1000) % 2
        expected = np.empty_like(grades)
        for half in (0, 1):
            for label in range(4):
                inside = rows // 10 == label
                other = grades[inside & (halves != half)]
                expected[inside & (halves == half)] = other.mean(axis=0)
        found = ScoreTable.from_grades(
            [list(parents)[row] for row in rows],
            np.ones(1000),
            grades,
            experts=("a", "b"),
            parameters=(1.0, 2.0),
            categories=list(parents),
            parents=parents,
            expected=expected,
        )
        scores.append(found.shares @ found.means[np.arange(len(parents)), fixed])
        printed.append(found.error_of(fixed))
    assert np.mean(printed) == pytest.approx(np.std(scores), rel=0.2)


def test_imagined_prompts_are_no_evidence() -> None:
    grades = np.array([[1.0, 0.0], [0.0, 1.0]] * 10)
    few, many = (
        ScoreTable.from_grades(
            ["a"] * 20,
            np.ones(20),
            grades,
            experts=("x", "y"),
            parameters=(1.0, 2.0),
            categories=["a"],
            parents={},
            prior=prior,
        )
        for prior in (1.0, 500.0)
    )
    np.testing.assert_allclose(few.errors, many.errors)
    assert few.errors[0, 0] == pytest.approx(0.5 / np.sqrt(23))
