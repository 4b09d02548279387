"""The program beside brute force, on instances small enough for that."""

from collections.abc import Iterator, Sequence
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import MappingError
from router.mapping.milp import Budgets, Solution, frontier, solve, total_frontier, totals
from router.mapping.score_table import ScoreTable


def table(
    sizes: Sequence[float], means: Sequence[Sequence[float]], shares: Sequence[float] | None = None
) -> ScoreTable:
    parts = np.array(shares if shares is not None else [1.0] * len(means))
    scores = np.array(means, dtype=np.float64)
    return ScoreTable(
        tuple(f"c{row}" for row in range(len(means))),
        tuple(f"e{column}" for column in range(len(sizes))),
        np.array(sizes, dtype=np.float64),
        parts / parts.sum(),
        scores,
        np.full(scores.shape, 0.02),
        np.full(scores.shape, 10),
    )


@st.composite
def tables(draw: st.DrawFn, categories: int = 4, experts: int = 4) -> ScoreTable:
    """Scores and sizes on a coarse grid, so that ties and budgets met exactly are common."""
    rows, columns = draw(st.integers(1, categories)), draw(st.integers(1, experts))
    hundredths = st.lists(st.integers(40, 60), min_size=columns, max_size=columns)
    return table(
        draw(st.lists(st.integers(1, 12), min_size=columns, max_size=columns)),
        [[each / 100 for each in row] for row in draw(st.lists(hundredths, min_size=rows, max_size=rows))],
        draw(st.lists(st.integers(1, 4), min_size=rows, max_size=rows)),
    )


@st.composite
def budgets(draw: st.DrawFn) -> Budgets:
    size = st.none() | st.integers(2, 40).map(lambda half: half / 2)
    return Budgets(draw(size), draw(size))


def every_map(found: ScoreTable) -> Iterator[tuple[float, float, float]]:
    """Score, active and total parameters."""
    rows = np.arange(len(found.categories))
    for chosen in product(range(len(found.experts)), repeat=len(rows)):
        index = np.array(chosen)
        yield (
            float(found.shares @ found.means[rows, index]),
            float(found.shares @ found.parameters[index]),
            float(found.parameters[np.unique(index)].sum()),
        )


def fits(given: float | None, size: float) -> bool:
    return given is None or size <= given * (1 + 1e-6)


def check(found: ScoreTable, solution: Solution) -> None:
    """What a solution says of itself is so."""
    columns = np.array([found.experts.index(solution.experts[name]) for name in found.categories])
    rows = np.arange(len(found.categories))
    assert solution.score == pytest.approx(found.shares @ found.means[rows, columns])
    assert solution.active == pytest.approx(found.shares @ found.parameters[columns])
    assert solution.total == pytest.approx(found.parameters[np.unique(columns)].sum())
    assert solution.kept == tuple(sorted({found.experts[column] for column in columns}))


@settings(deadline=None)
@given(tables(), budgets())
def test_no_map_within_the_budgets_is_better(found: ScoreTable, limits: Budgets) -> None:
    possible = [
        score
        for score, active, total in every_map(found)
        if fits(limits.active, active) and fits(limits.total, total)
    ]
    if not possible:
        with pytest.raises(MappingError, match="the smallest feasible one is"):
            solve(found, limits)
        return
    solution = solve(found, limits)
    check(found, solution)
    assert fits(limits.active, solution.active)
    assert fits(limits.total, solution.total)
    assert solution.score == pytest.approx(max(possible), abs=1e-8)
    assert solution.bound == pytest.approx(solution.score, abs=1e-8)


@settings(deadline=None)
@given(tables(), budgets(), st.sampled_from([0.0, 0.5, 1.0, 3.0]))
def test_a_dearer_expert_is_chosen_for_more_than_the_margin(
    found: ScoreTable, limits: Budgets, margin: float
) -> None:
    limits = Budgets(limits.active and limits.active + 12, limits.total and limits.total + 12)
    best, solution = solve(found, limits), solve(found, limits, margin)
    check(found, solution)
    assert set(solution.kept) <= set(best.kept)
    assert fits(limits.active, solution.active)
    assert solution.bound == pytest.approx(best.score, abs=1e-8)
    assert best.score - solution.score <= margin / 100 + 1e-8
    for row, name in enumerate(found.categories):
        chosen = found.experts.index(solution.experts[name])
        cheapest = min(map(found.experts.index, best.kept), key=lambda e: (found.parameters[e], e))
        gain = found.means[row, chosen] - found.means[row, cheapest]
        assert found.parameters[chosen] == found.parameters[cheapest] or gain > margin / 100


@settings(deadline=None, max_examples=30)
@given(tables())
def test_the_frontier_never_falls(found: ScoreTable) -> None:
    line = frontier(found)
    assert line[0].active == pytest.approx(found.parameters.min())
    assert line[-1].score == pytest.approx(found.shares @ found.means.max(axis=1))
    for below, above in pairwise(line):
        assert above.score >= below.score - 1e-8
        assert above.experts != below.experts


def test_each_budget_buys_what_it_is_worth() -> None:
    found = table([7, 70], [[0.5, 0.6], [0.5, 0.9]])
    assert solve(found, Budgets(active=7)).experts == {"c0": "e0", "c1": "e0"}
    assert solve(found, Budgets(active=40)).experts == {"c0": "e0", "c1": "e1"}
    assert solve(found, Budgets()).experts == {"c0": "e1", "c1": "e1"}
    assert solve(found, Budgets(total=70)).kept == ("e1",)
    assert solve(found, Budgets(active=40, total=70)).kept == ("e0",)


def test_equal_scores_go_to_the_cheaper_and_then_to_the_one_named_first() -> None:
    assert solve(table([9, 3, 5], [[0.5, 0.5, 0.5]]), Budgets()).experts == {"c0": "e1"}
    assert solve(table([9, 3, 3], [[0.5, 0.5, 0.5]]), Budgets()).experts == {"c0": "e1"}
    assert solve(table([9, 3, 3], [[0.5, 0.4, 0.5]]), Budgets(total=9)).experts == {"c0": "e2"}


def test_of_two_that_cost_the_same_the_better_is_chosen_within_the_margin_too() -> None:
    found = table([7, 7, 70], [[0.50, 0.52, 0.54], [0.9, 0.1, 0.9], [0.1, 0.9, 0.1]])
    assert solve(found, Budgets(), min_margin=5).experts["c0"] == "e1"


def test_the_margin_counts_from_the_cheaper_one_that_is_left() -> None:
    """The middle one is too near the small one, so it does not rule out the large one."""
    found = table([1, 2, 3], [[0.50, 0.54, 0.58], [0.1, 0.9, 0.1], [0.9, 0.1, 0.1]])
    assert solve(found, Budgets(), min_margin=5).experts["c0"] == "e2"
    assert solve(found, Budgets(), min_margin=10).experts["c0"] == "e0"


def test_the_standard_error_is_that_of_the_categories_scores_and_of_their_shares() -> None:
    solution = solve(table([7], [[0.5], [0.6]], shares=[1, 3]), Budgets())
    between = 0.25 * 0.075**2 + 0.75 * 0.025**2
    own = 0.02 * np.hypot(0.25, 0.75)
    assert solution.standard_error == pytest.approx(np.hypot(own, np.sqrt(between / 20)))


def test_a_budget_that_nothing_fits_names_the_smallest_that_something_does() -> None:
    found = table([9.24, 7.62], [[0.5, 0.5]])
    with pytest.raises(MappingError, match=r"5 B active parameters; the smallest .* is 7.62 B \(e1\)"):
        solve(found, Budgets(active=5))
    with pytest.raises(MappingError, match=r"7 B total parameters; the smallest .* is 7.62 B \(e1\)"):
        frontier(found, [8], total=7)


def test_a_frontier_of_given_budgets_says_how_far_it_is() -> None:
    heard: list[tuple[str, int, int]] = []
    line = frontier(
        table([7, 70], [[0.5, 0.6], [0.5, 0.9]]),
        [70, 40, 39, 7],
        progress=lambda *step: heard.append(step),
    )
    assert [solution.active for solution in line] == [7, 38.5, 70]
    assert heard == [("solving", done, 4) for done in range(5)]


def test_nothing_is_written_while_maps_of_hundreds_of_categories_are_solved(
    capfd: pytest.CaptureFixture[str],
) -> None:
    drawn = np.random.default_rng(0)
    means = np.clip(drawn.normal(0.55, 0.08, (400, 5)) + np.linspace(0, 0.05, 5), 0, 1)
    of_models = table([7.62, 9.24, 27.2, 70.6, 72.7], means.tolist(), drawn.random(400).tolist())
    assert len(frontier(of_models, np.linspace(10, 37, 10).tolist())) == 10
    assert capfd.readouterr() == ("", "")


def test_the_bound_holds_for_maps_that_lose_more_to_ties() -> None:
    """Scores differ by less than what a tie costs: the map that is chosen scores less than another."""
    scores = table([1.0, 10.0], [[0.5, 0.5 + 4e-10], [0.5, 0.5 + 4e-10]])
    solution = solve(scores, Budgets())
    best = float(scores.shares @ scores.means.max(axis=1))
    assert solution.score < best
    assert solution.bound >= best


def test_a_fixed_category_has_its_expert_at_every_budget_and_the_rest_is_solved_around_it() -> None:
    scores = table([1.0, 10.0], [[0.2, 0.9], [0.2, 0.9]])
    assert solve(scores, Budgets(6.0)).active == pytest.approx(5.5)
    for budgets in (Budgets(), Budgets(6.0), Budgets(6.0, 11.0)):
        assert solve(scores, budgets, fixed={"c0": "e0"}).experts["c0"] == "e0"
    dear = solve(scores, Budgets(6.0), fixed={"c1": "e1"})
    assert dear.experts == {"c0": "e0", "c1": "e1"}
    for margin in (0.0, 80.0):
        assert solve(scores, Budgets(), margin, {"c1": "e0"}).experts["c1"] == "e0"
    found = frontier(scores, fixed={"c1": "e1"})
    assert [solution.active for solution in found] == [5.5, 10.0]
    assert solve(scores, Budgets(None, 10.0), fixed={"c1": "e1"}).kept == ("e1",)


def test_what_cannot_be_fixed_is_refused() -> None:
    scores = table([1.0, 10.0], [[0.2, 0.9], [0.2, 0.9]])
    with pytest.raises(MappingError, match=r"the smallest feasible one is 5\.5 B \(e0, e1\)"):
        solve(scores, Budgets(5.0), fixed={"c1": "e1"})
    with pytest.raises(MappingError, match="no map fits both budgets and what is fixed"):
        solve(scores, Budgets(6.0, 10.0), fixed={"c1": "e1"})
    with pytest.raises(MappingError, match="no such row"):
        solve(scores, Budgets(), fixed={"c9": "e1"})
    with pytest.raises(MappingError, match="the scores are of e0, e1"):
        solve(scores, Budgets(), fixed={"c1": "e9"})


def of_sizes(parameters: Sequence[float]) -> ScoreTable:
    """The larger an expert, the better."""
    count = len(parameters)
    return ScoreTable(
        ("only",),
        tuple(f"e{place}" for place in range(count)),
        parameters=np.array(parameters),
        shares=np.ones(1),
        means=np.array([parameters]) / 100,
        errors=np.full((1, count), 0.01),
        counts=np.full((1, count), 100),
    )


def test_the_best_map_is_on_the_frontier_over_what_is_kept_whatever_its_size_is_rounded_to() -> None:
    large = 8.030_261_9  # to a thousand parameters it is more than itself
    found = total_frontier(of_sizes([1.0, large]))
    assert [solution.experts["only"] for solution in found] == ["e0", "e1"]


def test_budgets_of_many_unequal_experts_are_thinned_and_reach_the_most() -> None:
    table = of_sizes([round(1 + place**1.3, 9) for place in range(40)])  # a million million sets
    most = float(table.parameters.sum())
    found = totals(table, most, 40)
    assert len(found) == 40
    assert found == sorted(found)
    assert (found[0], found[-1]) == (1.0, most)
