import numpy as np
import pytest

from router.data.dataset import Example
from router.errors import DatasetError
from router.mapping.evaluation import Grades, MapEvaluation, Row, evaluate_map

EXPERTS = {"large": 30.0, "small": 10.0}
EASY, HARD = {"small": 1.0, "large": 1.0}, {"small": 0.0, "large": 1.0}


def examples(count: int = 40) -> list[Example]:
    """Half are easy, which both can do, and half hard, which only the large one can."""
    return [Example(str(n), f"prompt {n}", scores=(EASY, HARD)[n % 2]) for n in range(count)]


def of(chosen: list[str], at_labels: list[str] | None = None, embedder: float | None = None) -> MapEvaluation:
    return evaluate_map(Grades.of(examples(len(chosen)), EXPERTS), 3, chosen, at_labels, embedder)


def test_only_prompts_that_all_experts_are_graded_on_are_compared() -> None:
    partly = Example("x", "x", scores={"small": 1.0})
    grades = Grades.of([partly, *examples(4), partly], EXPERTS)
    assert grades.rows.tolist() == [1, 2, 3, 4]
    assert grades.scores.tolist() == [[100, 100], [100, 0]] * 2
    with pytest.raises(DatasetError, match="no line has scores of all of large, small"):
        Grades.of([partly], EXPERTS)


def test_beside_a_composition_stand_the_singles_the_blind_mix_and_the_oracle() -> None:
    """One in four goes to the large one, and that a hard one: half of what the small one gets wrong."""
    found = of(["small", "small", "small", "large"] * 10)
    assert (found.prompts, found.left_out) == (40, 3)
    assert _figures(found.composition) == ("composition", 15.0, 75.0)
    assert [_figures(row) for row in found.singles] == [("small", 10.0, 50.0), ("large", 30.0, 100.0)]
    assert _figures(found.blind)[1:] == (15.0, 62.5)
    assert _figures(found.oracle)[1:] == (20.0, 100.0)
    assert found.over_blind.value == pytest.approx(12.5)
    assert found.over_best_single.value == pytest.approx(-25)
    assert (found.true_categories, found.blind_with_embedder, found.over_blind_with_embedder) == (None,) * 3


def _figures(row: Row) -> tuple[str, float, float]:
    return row.name, row.active, round(row.score.value, 9)


def test_the_embedder_makes_the_blind_mix_dearer_and_so_better() -> None:
    found = of(["small", "small", "small", "large"] * 10, embedder=1.0)
    assert found.blind_with_embedder is not None
    assert found.over_blind_with_embedder is not None
    assert _figures(found.blind_with_embedder)[1:] == (16.0, 65.0)
    assert found.over_blind_with_embedder.value == pytest.approx(10)


def test_the_map_at_the_true_categories_stands_beside_them() -> None:
    found = of(["small"] * 40, ["small", "large"] * 20)
    assert found.true_categories is not None
    assert _figures(found.true_categories)[1:] == (20.0, 100.0)


def test_who_only_asks_one_expert_gains_nothing_and_surely() -> None:
    gain = of(["small"] * 40).over_blind
    assert (gain.value, gain.low, gain.high) == pytest.approx((0, 0, 0))


def test_a_composition_that_is_the_blind_mix_gains_nothing() -> None:
    """Who goes to the large one is drawn without a look at the prompt."""
    random = np.random.default_rng(0)
    chosen = ["large" if lot else "small" for lot in random.random(4000) < 0.5]
    gain = of(chosen).over_blind
    assert gain.value == pytest.approx(0, abs=1.5)
    assert gain.low < 0 < gain.high


def test_a_constant_difference_has_no_spread_and_another_one_has_its_own() -> None:
    """On every prompt the chosen one is 20 points better than the best single one is on average."""
    constant = [
        Example(str(n), "", scores={"a": 0.5 + 0.2 * (n % 2), "b": 0.7 - 0.2 * (n % 2)}) for n in range(40)
    ]
    grades = Grades.of(constant, {"a": 5.0, "b": 5.0})
    best = evaluate_map(grades, 0, ["b", "a"] * 20, None, None)
    assert best.composition.score.low == pytest.approx(best.composition.score.high) == pytest.approx(70)
    half = of(["small", "large"] * 20)
    width = half.over_best_single.high - half.over_best_single.low
    assert width == pytest.approx(0)
    alone = of(["small"] * 400).over_best_single
    assert alone.value == pytest.approx(-50)
    assert alone.high - alone.low == pytest.approx(2 * 1.96 * 50 / np.sqrt(400), rel=0.15)


def test_the_same_seed_gives_the_same_intervals() -> None:
    chosen = ["small", "large", "large"] * 200
    grades = Grades.of(examples(600), EXPERTS)
    first, again, other = (evaluate_map(grades, 0, chosen, None, None, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_an_expert_that_is_not_graded_cannot_be_chosen() -> None:
    with pytest.raises(DatasetError, match="the map chooses 'huge', which the score table does not have"):
        of(["huge"] * 4)


def test_no_figure_is_printed_without_its_baselines() -> None:
    lines = str(of(["small", "small", "small", "large"] * 10, ["small", "large"] * 20, 1.0)).splitlines()
    assert lines[0] == "40 graded prompts (3 left out: an expert has no grade there)"
    starts = [line.split("  ")[0] for line in lines if line]
    assert starts[2:] == [
        "small",
        "large",
        "blind mix at the same cost",
        "blind mix, the embedder counted",
        "composition",
        "map at the true categories",
        "oracle, prompt by prompt",
        "average active parameters: 15.00 B, with the embedder 16.00 B",
        "composition over the blind mix",
        "... counting the embedder's 1 B",
        "composition over the best single expert",
    ]
    assert any(line.startswith("composition over the blind mix") and "+12.50 [" in line for line in lines)
