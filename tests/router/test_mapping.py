import pytest

from router.dataset import Example
from router.errors import MappingError
from router.mapping import ExpertMapping

CATEGORIES = ("general", "law", "math")


def test_categories_left_out_go_to_the_expert_of_general() -> None:
    mapping = ExpertMapping.given({"general": "chat", "math": "calculator"}, CATEGORIES)
    assert mapping.experts == {"general": "chat", "law": "chat", "math": "calculator"}
    assert mapping.names() == ("calculator", "chat")


def test_an_unknown_category_names_the_closest_one() -> None:
    with pytest.raises(MappingError, match="no category 'maths'; did you mean 'math'"):
        ExpertMapping.given({"general": "chat", "maths": "calculator"}, CATEGORIES)


def test_general_must_be_mapped() -> None:
    with pytest.raises(MappingError, match="no expert for 'general'"):
        ExpertMapping.given({"math": "calculator"}, CATEGORIES)


def graded(category: str, count: int, **scores: float) -> list[Example]:
    return [Example(f"{category}/{i}", "?", category, scores) for i in range(count)]


def test_the_best_mean_score_wins_its_category() -> None:
    examples = graded("math", 200, small=0.2, large=0.8) + graded("law", 200, small=0.9, large=0.1)
    mapping = ExpertMapping.from_scores(examples, ["small", "large"], CATEGORIES)
    assert mapping.experts == {"general": "small", "law": "small", "math": "large"}


def test_a_small_category_does_not_choose_by_luck() -> None:
    examples = graded("math", 500, small=0.3, large=0.8) + graded("law", 2, small=1.0, large=0.5)
    assert ExpertMapping.from_scores(examples, ["small", "large"], CATEGORIES)["law"] == "large"
    assert ExpertMapping.from_scores(examples, ["small", "large"], CATEGORIES, prior=0.1)["law"] == "small"


def test_not_graded_is_not_wrong() -> None:
    examples = graded("math", 50, large=0.6) + graded("law", 50, large=0.6, small=0.9)
    assert ExpertMapping.from_scores(examples, ["small", "large"], CATEGORIES)["law"] == "small"


def test_an_expert_without_any_score_is_an_error_that_names_those_graded() -> None:
    with pytest.raises(MappingError, match="expert 'huge'; graded are: large, small"):
        ExpertMapping.from_scores(graded("math", 5, small=0, large=1), ["huge"], CATEGORIES)


def test_no_expert_to_choose_from_is_an_error() -> None:
    with pytest.raises(MappingError, match="names no expert"):
        ExpertMapping.from_scores(graded("math", 5, small=0), [], CATEGORIES)


def test_a_category_is_read_at_its_own_row_or_at_its_finer_ones() -> None:
    mapping = ExpertMapping({"general": "a", "math": "a", "law/1": "b", "law/2": "c", "law/2/x": "a"})
    assert mapping.rows_of("math") == ("math",)
    assert mapping.rows_of("law") == ("law/1", "law/2")
    assert mapping.rows_of("law/2") == ("law/2", "law/2/x")
    with pytest.raises(MappingError, match="has no category 'lwa'; did you mean 'law/"):
        mapping.rows_of("lwa")
