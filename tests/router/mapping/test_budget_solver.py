import pytest

from router.errors import MappingError
from router.mapping.budget_solver import Solver, restricted
from tests.router.mapping.score_tables import table

CATEGORIES = ("general", "law", "math")


def test_a_larger_budget_buys_better_experts() -> None:
    solver = Solver(table(CATEGORIES), ("general", "math", "law"))
    assert solver.map(1.0).names() == ("general",)
    assert dict(solver.map(5.0).experts) == {"general": "general", "law": "general", "math": "math"}
    assert dict(solver.map(None).experts) == {name: name for name in CATEGORIES}


def test_the_total_budget_and_the_margin_hold_for_every_map() -> None:
    assert Solver(table(CATEGORIES), CATEGORIES, total=12.0).map(None).names() == ("general", "math")
    assert Solver(table(CATEGORIES), CATEGORIES, min_margin=50.0).map(None).names() == ("general",)


def test_only_experts_that_are_configured_are_chosen() -> None:
    assert Solver(table(CATEGORIES), ("general", "law", "other")).map(None).names() == ("general", "law")
    assert restricted(table(CATEGORIES), CATEGORIES[:2]).experts == ("general", "law")


def test_what_cannot_be_solved_says_why() -> None:
    with pytest.raises(
        MappingError, match="artifact has no scores to solve a map from; train it with graded"
    ):
        Solver(None, CATEGORIES).map(1.0)
    with pytest.raises(MappingError, match=r"are of general, math, law, and none of them is configured here"):
        Solver(table(CATEGORIES), ("other",)).map(1.0)
    with pytest.raises(MappingError, match=r"no expert fits a budget of 0\.5 B active parameters"):
        Solver(table(CATEGORIES), CATEGORIES).map(0.5)


def test_a_label_that_is_fixed_fixes_its_finer_categories() -> None:
    rows = ("general", "law/0", "law/1", "math")
    finer = {"law/0": "law", "law/1": "law"}
    scores = table(rows)
    assert Solver(scores, CATEGORIES, finer=finer).map(1.0).names() == ("general",)
    found = Solver(scores, CATEGORIES, finer=finer, fixed={"law": "law", "law/1": "general"}).map(None)
    assert (found["law/0"], found["law/1"], found["math"]) == ("law", "general", "math")
    assert found.fixed == {"law/0", "law/1"}
    with pytest.raises(MappingError, match="has no category 'lwa'; did you mean 'law"):
        Solver(scores, CATEGORIES, finer=finer, fixed={"lwa": "law"}).map(None)
    with pytest.raises(MappingError, match="is fixed to 'law'; the scores are of general, math"):
        Solver(scores, ("general", "math"), finer=finer, fixed={"law": "law"}).map(None)
