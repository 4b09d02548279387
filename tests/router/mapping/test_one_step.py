"""One step: the price that keeps a budget, and what a prompt chooses at it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from router.errors import MappingError
from router.mapping.budget_solver import Solver
from router.mapping.expert_mapping import ExpertMapping
from router.mapping.milp import Budgets
from router.mapping.one_step import Predictions, best_at, expected_at, priced, prices, solve_price
from router.mapping.score_table import ScoreTable
from tests.router.mapping.score_tables import table

ROWS = ("general", "math/0", "math/1")
FINER = {"math/0": "math", "math/1": "math"}
EXPERTS = ("small", "large", "huge")


def scores(categories: tuple[str, ...] = ROWS) -> ScoreTable:
    """Sizes are 1, 11 and 21 B."""
    return table(categories, EXPERTS)


def predicted(count: int = 300, seed: int = 0) -> Predictions:
    """Predicts for prompts at all rows in turn: larger experts are expected to score more, on some far
    more."""
    draw = np.random.default_rng(seed)
    levels = np.array([0.3, 0.5, 0.55]) + 0.2 * draw.standard_normal((count, 3))
    return Predictions(EXPERTS, levels.astype(np.float16), (np.arange(count) % 3).astype(np.int32))


def solver(**changed: Any) -> Solver:
    made = Solver(scores(), EXPERTS, finer=FINER, predictions=predicted(), steps="one")
    return replace(made, **changed)


@pytest.mark.parametrize("budget", [1.0, 3.0, 8.0, 14.0])
def test_the_price_keeps_the_budget_and_leaves_less_than_one_prompts_share(budget: float) -> None:
    solution = solver().solve(budget)
    assert solution.price is not None
    # All prompts of general expect the same, and change together.
    assert solution.active <= budget
    assert solution.score <= solution.bound
    if budget > 1:
        assert solution.bound - solution.score < 0.1
        dearer = solver().solve(budget / 1.5)
        assert dearer.price is not None
        assert dearer.price > solution.price
        assert dearer.score < solution.score


def test_no_assignment_of_prompts_within_the_budget_is_expected_to_score_more_than_the_bound() -> None:
    only, few = scores(("math",)), predicted(7)
    told = replace(few, rows=np.zeros(7, dtype=np.int32))
    for budget in (2.0, 5.0, 9.0):
        solution = solve_price(only, told, {}, Budgets(budget))
        best = max(
            float(told.scores[np.arange(7), list(each)].astype(float).mean())
            for each in np.ndindex(*(3,) * 7)
            if only.parameters[list(each)].mean() <= budget
        )
        assert solution.score <= best + 1e-9
        assert best <= solution.bound + 1e-9


def test_without_a_budget_the_best_expected_answers() -> None:
    solution = solver().solve(None)
    assert solution.price == 0
    trusted = predicted().scores.astype(float)[np.arange(300) % 3 != 0]
    assert solution.score == pytest.approx((0.5 + 2 * trusted.max(axis=1).mean()) / 3)
    assert solution.kept == tuple(sorted(EXPERTS))


def test_equal_ones_go_to_the_cheapest_and_then_to_the_one_named_first() -> None:
    even = Predictions(EXPERTS, np.full((2, 3), 0.5, dtype=np.float16), np.array([1, 2], dtype=np.int32))
    solution = solve_price(scores(), even, FINER, Budgets())
    assert solution.active == pytest.approx(1)
    mapping = solver(predictions=even).map(None)
    assert best_at(mapping, scores(), "math/0", dict.fromkeys(EXPERTS, 0.5), None) == "small"
    same = replace(scores(), parameters=np.array([5.0, 5.0, 5.0]))
    free = replace(mapping, among=EXPERTS)
    assert best_at(free, same, "math/0", dict.fromkeys(EXPERTS, 0.5), None) == "small"
    assert best_at(free, same, "math/0", dict.fromkeys(EXPERTS, 0.5), ["huge", "large"]) == "large"


def test_in_general_the_rows_means_are_expected_and_so_they_are_of_who_came_later() -> None:
    said = {"small": 0.1, "large": 0.2}
    assert expected_at(scores(), "math/0", said, FINER) == {"small": 0.1, "large": 0.2, "huge": 0.4}
    assert expected_at(scores(), "general", said, FINER) == {"small": 0.5, "large": 0.4, "huge": 0.4}
    assert expected_at(scores(), "law", said, FINER) == {}
    gone = predicted().renamed({"large": ""})
    left = scores().of_experts([0, 2])
    solution = solve_price(left, gone, FINER, Budgets())
    assert solution.kept == ("huge", "small")


def test_a_fixed_row_keeps_its_expert_at_every_price() -> None:
    fixed = solver(fixed={"math/0": "huge"})
    solution = fixed.solve(8.0)
    assert solution.experts["math/0"] == "huge"
    assert solution.active <= 8.0
    mapping = fixed.mapping(solution)
    assert best_at(mapping, scores(), "math/0", {"small": 1.0}, None) == "huge"
    assert best_at(mapping, scores(), "math/0", {"small": 1.0}, ["small"]) == "small"
    assert best_at(mapping, scores(), "math/1", {"small": 1.0}, None) == "small"
    with pytest.raises(
        MappingError, match=r"a budget of 7 B active parameters; the smallest feasible one is"
    ):
        fixed.solve(7.0)


def test_a_budget_of_all_parameters_leaves_the_experts_of_the_best_map() -> None:
    solution = solver(total=12.0).solve(None)
    assert (solution.kept, solution.total) == (("large", "small"), 12.0)
    assert solver(total=12.0).map(None).names() == ("large", "small")


def test_shares_of_traffic_move_the_price() -> None:
    hard = replace(
        predicted(),
        scores=np.where(np.arange(300)[:, None] % 3 == 1, [[0.1, 0.9, 0.9]], [[0.5, 0.6, 0.6]]).astype(
            np.float16
        ),
    )
    few = replace(scores(), shares=np.array([0.1, 0.1, 0.8]))
    many = replace(scores(), shares=np.array([0.1, 0.8, 0.1]))
    cheap, dear = (solve_price(each, hard, FINER, Budgets(5.0)).price for each in (few, many))
    assert cheap is not None
    assert dear is not None
    assert cheap < dear


def test_a_row_without_a_graded_prompt_counts_with_its_means() -> None:
    some = Predictions(EXPERTS, np.full((2, 3), 0.5, dtype=np.float16), np.array([0, 1], dtype=np.int32))
    solution = solve_price(scores(), some, FINER, Budgets())
    assert solution.score == pytest.approx((0.5 + 0.5 + 0.5) / 3)


def test_a_solution_is_told_again_by_its_mapping() -> None:
    for budget in (3.0, 8.0, None):
        solution = solver().solve(budget)
        again = priced(scores(), predicted(), solver().mapping(solution))
        assert (again.score, again.active) == (solution.score, solution.active)


def test_the_frontier_goes_from_the_cheapest_choice_to_the_best() -> None:
    found = solver().frontier()
    assert found[0].active == pytest.approx(1)
    assert found[-1].price == 0
    actives, values = [each.active for each in found], [each.score for each in found]
    assert actives == sorted(actives)
    assert values == sorted(values)
    assert prices(scores(), predicted(), FINER, total=12.0)[-1].kept == ("large", "small")


def test_what_one_step_cannot_do_says_why() -> None:
    with pytest.raises(MappingError, match=r"keeps no scores expected of single prompts\. Train it again"):
        solver(predictions=None).map(3.0)
    with pytest.raises(MappingError, match="a margin between experts goes with two steps"):
        solver(min_margin=0.5).map(3.0)


def test_a_map_names_the_experts_that_only_single_prompts_choose() -> None:
    mapping = ExpertMapping({"general": "small"}, price=0.0, among=("large", "small"))
    assert mapping.names() == ("large", "small")
