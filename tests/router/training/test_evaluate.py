import random
from dataclasses import replace

import pytest

from router.data.dataset import Example
from router.errors import DatasetError
from router.mapping.milp import frontier
from router.training.evaluate import evaluate, evaluate_frontier
from tests.router.mapping.hidden_groups import SIZES, finer, hidden
from tests.router.training.test_training import given, prompts, solved


def test_evaluation_measures_what_a_confusion_would_show() -> None:
    easy = [Example(f"t/{i}", "butter flour dough sugar whisk oven", "cooking") for i in range(9)]
    wrong = Example("t/wrong", "butter flour dough sugar whisk oven", "sailing")
    result = evaluate(given(), [*easy, wrong, Example("t/unlabelled", "hm")])
    found = result.categories
    assert found is not None
    assert found.prompts == 10
    assert found.accuracy.value == found.expert_accuracy.value == pytest.approx(0.9)
    assert found.accuracy.low <= 0.9 <= found.accuracy.high
    assert found.of["cooking"].precision == pytest.approx(0.9)
    assert found.of["sailing"].recall == 0.0
    assert found.macro_f1.value == pytest.approx((18 / 19) / 2)
    assert result.worth is None
    assert "right expert            0.900 [" in str(result)


def test_the_surest_prompts_are_right_more_often_than_all() -> None:
    chance = random.Random(3)
    doubtful = [
        Example(
            f"d/{n}",
            " ".join(chance.choices(["oven", "butter", "mast", "rudder"], k=2)),
            chance.choice(["cooking", "sailing"]),
        )
        for n in range(60)
    ]
    found = evaluate(given(), [*prompts(20), *doubtful]).categories
    assert found is not None
    assert list(found.accuracy_at) == ["1", "0.95", "0.9", "0.8", "0.7", "0.5"]
    assert found.accuracy_at["1"] == pytest.approx(found.accuracy.value)
    assert found.accuracy_at["0.5"] > found.accuracy_at["1"]


def test_an_uncertain_prompt_still_counts_by_its_likeliest_category() -> None:
    router = given()
    timid = router.with_artifact(
        replace(router.artifact, uncertainty=replace(router.artifact.uncertainty, max_surprise=-1.0))
    )
    found = evaluate(timid, prompts(5)).categories
    assert found is not None
    assert (found.coverage, found.accuracy.value, found.accuracy_when_certain) == (0.0, 1.0, 0.0)
    assert found.expert_accuracy.value == pytest.approx(1 / 3)  # all go to who answers general


def test_graded_prompts_show_what_the_composition_is_worth() -> None:
    found = evaluate(solved(), prompts(20)).worth
    assert found is not None
    assert [row.name for row in found.singles] == ["chat", "chef", "skipper"]
    assert found.prompts == 60
    assert found.composition.score.value == pytest.approx(100 * 2.5 / 3)
    assert found.composition.active == pytest.approx(5.0)
    assert found.true_categories is not None
    assert found.true_categories.score.value == pytest.approx(found.composition.score.value)
    assert found.over_best_single.value == pytest.approx(100 * (2.5 - 1.5) / 3)
    assert found.embedder == 0.0117


def test_with_the_true_category_the_map_is_read_at_the_finer_one_within_it() -> None:
    router, examples = finer(), hidden(20, seed=6)
    mislabelled = [replace(example, category="chores") for example in examples]
    found, fooled = (evaluate(router, each).worth for each in (examples, mislabelled))
    assert found is not None
    assert fooled is not None
    assert found.composition == fooled.composition
    assert found.true_categories is not None
    assert found.true_categories.score.value == pytest.approx(found.composition.score.value)
    assert fooled.true_categories is not None
    assert found.over_blind.low > 5


def test_prompts_without_labels_are_worth_something_and_without_grades_have_categories() -> None:
    unlabelled = [replace(example, category=None) for example in prompts(5)]
    found = evaluate(solved(), unlabelled)
    assert found.categories is None
    assert found.worth is not None
    assert found.worth.true_categories is None
    ungraded = evaluate(solved(), [replace(example, scores={}) for example in prompts(5)])
    assert (ungraded.categories is None, ungraded.worth is None) == (False, True)


def test_evaluation_refuses_what_it_cannot_compare() -> None:
    with pytest.raises(DatasetError, match=r"x/1: the router has no category 'chess'; it has: cooking,"):
        evaluate(given(), [Example("x/1", "e4", "chess")])
    with pytest.raises(DatasetError, match="nothing to compare"):
        evaluate(given(), [Example("x/1", "e4")])
    with pytest.raises(DatasetError, match="nothing to compare"):
        evaluate(given(), [Example("x/1", "e4", scores={"chat": 1.0})])
    with pytest.raises(DatasetError, match="no line has scores of all of chat, chef, skipper"):
        evaluate(solved(), [Example("x/1", "e4", scores={"chat": 1.0})])


def test_a_frontier_decides_once_and_is_worth_what_each_map_would_be() -> None:
    router, examples = solved(), prompts(10)
    table = router.artifact.scores
    assert table is not None
    solutions = frontier(table)
    decided: list[int] = []
    found = evaluate_frontier(
        router,
        examples,
        solutions,
        progress=lambda stage, done, _: decided.append(done) if stage == "deciding" else None,
    )
    assert decided == list(range(1, 31))
    assert len(found) == len(solutions) >= 3
    assert found[0].composition.active == pytest.approx(SIZES["chat"])
    for solution, each in zip(solutions, found, strict=True):
        mapped = router.with_artifact(router.artifact.with_solution(solution))
        assert evaluate(mapped, examples).worth == each
    assert found[-1].over_blind.value > found[0].over_blind.value
