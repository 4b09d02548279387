"""A router that chooses for each prompt by itself: decisions, conversations, and what changes later."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from router.artifacts.artifact import Artifact
from router.canary import check_same_rows
from router.composition import Composition
from router.data.dataset import Example
from router.decision import GENERAL, Decision
from router.embedders.static import StaticMiniLm
from router.errors import MappingError, NoEligibleError
from router.router import Router
from router.training.add_category import with_category
from router.training.expert_column import with_expert, without_expert
from tests.router.mapping.hidden_groups import GROUPS, PLAIN, finer, hidden

COOKING, SAILING = (" ".join(words.split()[:8]) for words in GROUPS.values())


@cache
def one_step() -> Router:
    """Within a budget that is a little more than what the best costs."""
    return finer().under(5.2, steps="one")


def talk(*turns: str) -> Sequence[Mapping[str, object]]:
    return [{"role": "user", "content": turn} for turn in turns]


def test_each_prompt_gets_the_expert_that_is_expected_to_do_best_on_it() -> None:
    for prompt, expert in ((COOKING, "chef"), (SAILING, "skipper")):
        decision = one_step().decide(prompt)
        assert (decision.category, decision.expert) == ("chores", expert)
        assert decision.cluster.startswith("chores/")
        assert max(decision.expected, key=lambda name: decision.expected[name]) == expert
    assert one_step().decide(PLAIN).expert == "chat", "all are as good there, and it is the cheapest"


def test_two_steps_tell_the_same_category_and_expect_nothing_of_a_prompt() -> None:
    for prompt in (COOKING, SAILING, PLAIN, "", "zzz qqq"):
        two, one = finer().decide(prompt), one_step().decide(prompt)
        assert (two.category, two.cluster, two.uncertain) == (one.category, one.cluster, one.uncertain)
        assert two.expected == {}
    assert one_step().under(steps="two").decide(COOKING).expected == {}


def test_a_budget_is_kept_on_prompts_that_were_not_trained_on() -> None:
    sizes = {"chat": 1.0, "chef": 7.0, "skipper": 7.0}
    for budget in (2.0, 4.0):
        cheap = finer().under(budget, steps="one")
        assert cheap.artifact.active_parameters == pytest.approx(budget, abs=0.3)
        chosen = cheap.predict(each.prompt for each in hidden(60, seed=9))
        assert np.mean([sizes[name] for name in chosen]) == pytest.approx(budget, abs=0.5)


def test_a_prompt_in_general_is_expected_to_score_what_its_row_does() -> None:
    doubted = one_step().decide("")
    assert (doubted.category, doubted.uncertain) == (GENERAL, True)
    table = one_step().artifact.scores
    assert table is not None
    means = {each.expert: each.score for each in table.row(doubted.cluster)}
    assert one_step().scores_at(doubted.cluster, doubted.expected) == means


def test_prompts_that_are_read_together_are_decided_the_same() -> None:
    prompts = [COOKING, SAILING, PLAIN]
    for together, prompt in zip(one_step().decide_quickly(prompts), prompts, strict=True):
        assert together is None or together.expert == one_step().decide(prompt).expert


def test_who_cannot_take_the_request_is_passed_over_for_the_next_best() -> None:
    assert one_step().decide(COOKING, eligible=["chat", "skipper"]).expert == "chat"
    assert finer().under(steps="one").decide(SAILING, eligible=["chef"]).expert == "chef"
    with pytest.raises(NoEligibleError):
        one_step().decide(COOKING, eligible=["nobody"])


def test_the_artifact_keeps_its_price_and_gives_the_same_decisions(tmp_path: Path) -> None:
    made = finer().under(4.0, steps="one")
    made.save(tmp_path)
    read = Artifact.read(tmp_path)
    assert (read.steps, read.mapping) == ("one", made.artifact.mapping)

    def decided(router: Router) -> list[Decision]:
        return [replace(router.decide(each.prompt), seconds=0.0) for each in hidden(5, seed=4)]

    assert decided(Router(read, StaticMiniLm())) == decided(made)


def test_a_composition_says_that_the_prompt_chose() -> None:
    composition = Composition(one_step())
    assert (composition.choose(talk(COOKING)).by, composition.experts) == (
        "one-step",
        ("chat", "chef", "skipper"),
    )
    assert composition.choose(talk(COOKING), eligible=["chat"]).by == "eligibility"
    named = composition.choose(talk(COOKING), category=GENERAL)
    assert (named.by, named.decision.expert) == ("category-header", "chat")
    own = composition.choose(talk(COOKING), category="chores")
    assert (own.by, own.decision.expert) == ("category-header", "chef")
    under = composition.under(1.0).choose(talk(COOKING))
    assert (under.by, under.decision.expert) == ("budget", "chat")
    assert len(composition.frontier) > 1


def test_a_conversation_stays_with_its_expert_by_what_each_turn_is_expected_to_score() -> None:
    kept = Composition(one_step(), stay_margin=150).choose(talk(COOKING, SAILING))
    assert (kept.by, kept.decision.expert, kept.decision.category) == ("sticky", "chef", "chores")
    leaves = Composition(one_step(), stay_margin=1).choose(talk(COOKING, SAILING))
    assert (leaves.by, leaves.decision.expert) == ("one-step", "skipper")
    doubted = Composition(one_step()).choose(talk(COOKING, ""))
    assert (doubted.decision.category, doubted.decision.expert) == ("chores", "chef")


def test_an_expert_on_the_device_answers_within_the_margin_of_what_is_expected() -> None:
    near = Composition(one_step(), residency_margin=100)
    assert near.choose(talk(COOKING), resident=["chat"]).by == "residency"
    strict = Composition(one_step(), residency_margin=1)
    assert strict.choose(talk(COOKING), resident=["chat"]).by == "one-step"


def test_a_fixed_category_keeps_its_expert() -> None:
    fixed = replace(finer().artifact, fixed={"chores": "skipper"})
    router = finer().with_artifact(fixed).under(steps="one")
    choice = Composition(router).choose(talk(COOKING), resident=["chat"])
    assert (choice.decision.expert, choice.by) == ("skipper", "map")
    assert router.decide(COOKING, eligible=["chat"]).expert == "chat"
    added = with_category(
        one_step(), "chess", ["zugzwang skewer", "gambit skewer", "castling gambit"], "chat"
    )
    assert added.under(steps="one").decide("gambit skewer zugzwang").expert == "chat"


def graded(expert: str) -> list[Example]:
    return [replace(each, scores={**each.scores, expert: 1.0}) for each in hidden(40, seed=3)]


def test_an_expert_that_came_later_is_expected_to_score_what_its_row_does(tmp_path: Path) -> None:
    made = with_expert(one_step(), "master", 7.0, graded("master"))
    router = one_step().with_artifact(made).under()
    assert router.artifact.steps == "one"
    decision = router.decide(PLAIN)
    assert (decision.expert, "master" in decision.expected) == ("master", False)
    assert router.scores_at("chores/0", {"chef": 0.2})["master"] > 0.8
    router.save(tmp_path)
    assert Router(Artifact.read(tmp_path), StaticMiniLm()).decide(PLAIN).expert == "master"


def test_an_expert_that_is_gone_is_chosen_no_more_even_if_another_gets_its_name() -> None:
    left = without_expert(one_step().artifact, "chef")
    router = one_step().with_artifact(left)
    assert "chef" not in router.experts
    assert router.decide(COOKING).expert == "chat"
    worse = [replace(each, scores={**each.scores, "chef": 0.0}) for each in hidden(40, seed=3)]
    again = router.with_artifact(with_expert(router, "chef", 7.0, worse)).under()
    assert again.decide(COOKING).expert == "chat"


def test_experts_may_be_called_otherwise() -> None:
    router = one_step().with_names({"chef": "cook"})
    assert router.decide(COOKING).expert == "cook"
    assert router.under(4.0).decide(COOKING).expert == "cook"


def test_what_has_no_rows_or_no_predictions_is_refused() -> None:
    with pytest.raises(MappingError, match="a canary is a map, and chooses in two steps"):
        check_same_rows(one_step().artifact, finer().artifact)
    with pytest.raises(MappingError, match="cannot choose in one step"):
        replace(finer().artifact, predictions=None).solver(steps="one").map(None)
