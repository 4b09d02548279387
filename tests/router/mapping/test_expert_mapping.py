import pytest

from router.errors import MappingError
from router.mapping.expert_mapping import ExpertMapping

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


def test_a_label_goes_where_most_prompts_of_its_finer_categories_go() -> None:
    rows = {"general": "a", "math/0": "a", "math/1": "b", "math/2": "b", "law": "c"}
    shares = {"general": 0.2, "math/0": 0.3, "math/1": 0.2, "math/2": 0.2, "law": 0.1}
    mapping = ExpertMapping.solved(rows, shares, {f"math/{number}": "math" for number in range(3)})
    assert mapping.experts == rows | {"math": "b"}
    assert (mapping["math/0"], mapping["math"], mapping["law"]) == ("a", "b", "c")


def test_a_finer_category_without_a_line_goes_where_its_label_does() -> None:
    mapping = ExpertMapping.given({"general": "chat", "math": "calculator"}, CATEGORIES)
    assert (mapping["math/7"], mapping["law/0"]) == ("calculator", "chat")


def test_a_category_is_read_at_its_own_row_or_at_its_finer_ones() -> None:
    experts = {"general": "a", "math": "a", "law/1": "b", "law/2": "c"}
    mapping = ExpertMapping(experts, {"law/1": "law", "law/2": "law"})
    assert mapping.rows_of("math") == ("math",)
    assert mapping.rows_of("law") == ("law/1", "law/2")
    assert mapping.rows_of("law/2") == ("law/2",)
    with pytest.raises(MappingError, match="has no category 'lwa'; did you mean 'law/"):
        mapping.rows_of("lwa")


def test_a_slash_in_a_label_makes_no_other_category() -> None:
    rows = {"general": "a", "a/b": "a", "a/b/0": "b", "a/b/1": "a"}
    shares = {"general": 0.4, "a/b": 0.0, "a/b/0": 0.3, "a/b/1": 0.3}
    mapping = ExpertMapping.solved(rows, shares, {"a/b/0": "a/b", "a/b/1": "a/b"})
    assert set(mapping.experts) == set(rows)
    assert mapping.rows_of("a/b") == ("a/b", "a/b/0", "a/b/1")
    with pytest.raises(MappingError, match="has no category 'a'"):
        mapping.rows_of("a")
