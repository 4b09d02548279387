from dataclasses import replace
from pathlib import Path

import pytest

from router.artifacts.artifact import Artifact
from router.data.dataset import Example
from router.data.example_file import write_examples
from router.errors import DatasetError, MappingError
from router.mapping.milp import Budgets, solve
from router.router import Router
from router.training.expert_column import FEWEST, with_expert, without_expert
from router.training.train import train
from server.cli.main import main
from tests.router.hashed_words import HashedWords
from tests.router.mapping.hidden_groups import finer, hidden
from tests.router.training.test_training import SIZES, prompts, solved


def graded(name: str, good_at: str, known: bool = True) -> list[Example]:
    """New prompts on which ``name`` is right where the topic is ``good_at``, with the others' grades or
    without."""
    return [
        replace(
            example,
            id=f"new {example.id}",
            scores={**(example.scores if known else {}), name: float(example.category == good_at)},
        )
        for example in prompts(40)
    ]


@pytest.mark.parametrize("known", [True, False], ids=["graded beside others", "graded alone"])
def test_an_expert_that_is_better_at_a_category_answers_it_after_one_solve(known: bool) -> None:
    data = [
        replace(example, scores={n: s for n, s in example.scores.items() if n != "skipper"})
        for example in graded("navigator", "sailing", known)
    ]
    made = with_expert(without_router("skipper"), "navigator", 7.0, data)
    assert made.scores is not None
    experts = solve(made.scores, Budgets()).experts
    assert {experts[row] for row in experts if made.finer.get(row, row) == "sailing"} == {"navigator"}
    assert {experts[row] for row in experts if made.finer.get(row, row) == "cooking"} == {"chef"}


def without_router(name: str) -> Router:
    return solved().with_artifact(without_expert(solved().artifact, name))


def test_the_column_is_near_what_training_on_the_same_grades_says(tmp_path: Path) -> None:
    whole = train(prompts(), tmp_path, experts=SIZES, embedder=HashedWords()).artifact.scores
    part = {name: size for name, size in SIZES.items() if name != "skipper"}
    before = train(prompts(), tmp_path, experts=part, embedder=HashedWords())
    made = with_expert(before, "skipper", 7.0, prompts()).scores
    assert whole is not None
    assert made is not None
    for row in ("sailing", "cooking", "general"):
        if row in whole.categories and row in made.categories:
            trained = whole.means[whole.categories.index(row), whole.experts.index("skipper")]
            assert made.means[made.categories.index(row), -1] == pytest.approx(trained, abs=0.15)


def test_a_removed_expert_answers_nothing_and_is_fixed_nowhere() -> None:
    artifact = replace(solved().artifact, fixed={"sailing": "skipper"})
    made = without_expert(artifact, "skipper")
    assert "skipper" not in made.mapping.names()
    assert made.fixed == {}
    with pytest.raises(MappingError, match="no scores of 'skipper'"):
        without_expert(made, "skipper")


def test_finer_categories_outlive_their_experts(tmp_path: Path) -> None:
    router = finer()
    made = router.with_artifact(without_expert(router.artifact, "chef"))
    added = with_expert(
        made,
        "baker",
        7.0,
        [
            replace(each, scores={"baker": each.scores["chef"], "skipper": each.scores["skipper"]})
            for each in hidden(60, seed=9)
        ],
    )
    added.write(tmp_path)
    read = Artifact.read(tmp_path)
    assert read.scores is not None
    solution = solve(read.scores, Budgets())
    mapped = router.with_artifact(read.with_solution(solution))
    assert mapped.decide("oven butter flour sugar whisk dough salt").expert == "baker"
    assert mapped.decide("mast rudder keel anchor harbour jib reef").expert == "skipper"


def test_what_cannot_be_added_is_said(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match="already"):
        with_expert(solved(), "chef", 7.0, graded("chef", "cooking"))
    with pytest.raises(DatasetError, match=f"give {FEWEST} or more"):
        with_expert(solved(), "baker", 7.0, graded("baker", "cooking")[: FEWEST - 1])


def test_the_verbs_write_artifacts_that_have_the_expert_or_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, data = tmp_path / "first", tmp_path / "graded.jsonl"
    solved().artifact.write(first)
    lines = [
        Example(each.id, each.prompt, each.category, {"baker": float(each.category == "cooking")})
        for each in prompts(20)
    ]
    write_examples(data, lines)
    common = ["--name", "baker", "--data", str(data), "--params", "1B"]
    second, third, fourth = tmp_path / "second", tmp_path / "third", tmp_path / "fourth"
    adding = ["router", "add-expert", "--artifact", str(first), *common]
    assert main([*adding, "--active-params", "2B", "--out", str(second)]) == 0
    assert "baker answers 3" in capsys.readouterr().out
    assert Artifact.read(second).mapping["cooking"] == "baker"
    assert main([*adding, "--out", str(third)]) == 0
    assert Artifact.read(third).active_parameters == pytest.approx(solved().artifact.active_parameters)
    replacing = ["router", "replace-expert", "--artifact", str(first), *common, "--of", "chef"]
    assert main([*replacing, "--out", str(third)]) == 0
    assert "chef" not in Artifact.read(third).mapping.names()
    removing = ["router", "remove-expert", "--artifact", str(second), "--name", "baker"]
    assert main([*removing, "--out", str(fourth)]) == 0
    assert "baker" not in Artifact.read(fourth).mapping.names()
    assert main([*removing[:-1], "nobody", "--out", str(fourth)]) == 1
    assert "no scores of 'nobody'" in capsys.readouterr().err
