"""A conversation with the embedded router."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import router
from router.composition import Composition
from router.conversations.recall import Recall
from router.decision import Decision
from router.embedders.registry import embedder_named
from router.errors import MappingError, NoEligibleError
from router.mapping.expert_mapping import ExpertMapping
from router.router import Router
from tests.router.mapping.hidden_groups import GROUPS, finer
from tests.router.mapping.score_tables import table

MATHS = "What is the integral of x^2?"
LAW = "Can my landlord evict me without notice?"
GIBBERISH = "xkcd blorf gnarp wibble"


@cache
def embedded() -> Router:
    return Router.load(Path(router.__file__).parent / "embedded")


class Counting:
    def __init__(self) -> None:
        self.count = 0

    def decide(self, prompt: str) -> Decision:
        self.count += 1
        return embedded().decide(prompt)

    def cluster_in(self, label: str, prompt: str, decision: Decision) -> str:
        return embedded().cluster_in(label, prompt, decision)


def talk(*turns: str) -> Sequence[Mapping[str, object]]:
    return [
        message
        for turn in turns
        for message in ({"role": "user", "content": turn}, {"role": "assistant", "content": "Yes."})
    ][:-1]


def test_one_turn_is_what_the_router_decides() -> None:
    choice = Composition(embedded()).choose(talk(MATHS))
    decision = embedded().decide(MATHS)
    assert (choice.by, choice.decision.expert, choice.decision.category) == ("map", "math", "math")
    assert choice.decision.probabilities == decision.probabilities
    assert choice.decision.others == decision.others
    assert choice.decision.seconds >= 0


def test_a_conversation_stays_until_its_topic_moves() -> None:
    composition = Composition(embedded())
    kept = composition.choose(talk(MATHS, GIBBERISH))
    assert (kept.by, kept.decision.category, kept.decision.expert) == ("sticky", "math", "math")
    assert (kept.alone.category, kept.decision.uncertain) == ("general", True)
    moved = composition.choose(talk(MATHS, GIBBERISH, LAW))
    assert (moved.by, moved.decision.category) == ("map", "law")


def test_a_margin_of_nothing_is_no_stickiness() -> None:
    choice = Composition(embedded(), margin=0).choose(talk(MATHS, GIBBERISH))
    assert (choice.by, choice.decision.category) == ("map", "general")


def test_a_long_conversation_costs_one_decision_a_request() -> None:
    counting = Counting()
    composition = Composition(embedded(), recall=Recall(counting))
    turns = [f"What is the integral of x^{power}?" for power in range(2, 30)]
    for count in range(1, len(turns) + 1):
        composition.choose(talk(*turns[:count]))
        assert counting.count == count
    fresh = Counting()
    Composition(embedded(), recall=Recall(fresh)).choose(talk(*turns))
    assert fresh.count == 8


def test_the_category_that_a_client_names_is_where_the_map_is_read() -> None:
    choice = Composition(embedded()).choose(talk(MATHS), category="law")
    assert (choice.by, choice.decision.category, choice.decision.expert) == ("category-header", "law", "law")
    assert choice.alone.category == "math"
    assert choice.decision.others["math"] > 0.5
    certain = Composition(embedded()).choose(talk(GIBBERISH), category="law")
    assert not certain.decision.uncertain


def test_a_category_there_is_not_is_refused_with_those_there_are() -> None:
    with pytest.raises(
        MappingError, match=r"no category 'maths'; did you mean 'math'\? It has: biology, .*reason"
    ):
        Composition(embedded()).choose(talk(MATHS), category="maths")


def test_who_cannot_take_it_is_passed_over() -> None:
    choice = Composition(embedded()).choose(talk(MATHS), eligible={"law", "general"})
    assert (choice.by, choice.decision.expert, choice.decision.category) == ("eligibility", "general", "math")
    named = Composition(embedded()).choose(talk(MATHS), eligible={"medicine"}, category="law")
    assert (named.by, named.decision.expert) == ("eligibility", "medicine")
    with pytest.raises(NoEligibleError):
        Composition(embedded()).choose(talk(MATHS), eligible={"nobody"})


def test_nothing_asked_goes_to_general() -> None:
    choice = Composition(embedded()).choose([{"role": "system", "content": "Be brief."}])
    assert (choice.by, choice.decision.category) == ("map", "general")


def with_scores(*, experts: Sequence[str] = ("general", "math", "law")) -> Router:
    scores = table(embedded().categories, experts)
    return Router(replace(embedded().artifact, scores=scores), embedder_named("minilm-l6-int8"))


def test_under_a_budget_its_map_is_another_and_the_decisions_are_remembered() -> None:
    counting = Counting()
    composition = Composition(with_scores(), recall=Recall(counting))
    cheap, dear = composition.under(1.0), composition.under(2.0)
    assert composition.choose(talk(MATHS)).by == "map"
    for under, expert in ((cheap, "general"), (dear, "math")):
        choice = under.choose(talk(MATHS))
        assert (choice.by, choice.decision.category, choice.decision.expert) == ("budget", "math", expert)
    assert cheap.choose(talk(MATHS, GIBBERISH)).by == "sticky"
    assert cheap.choose(talk(MATHS), category="law").by == "category-header"
    assert counting.count == 2


def test_without_scores_there_is_no_map_for_a_budget() -> None:
    with pytest.raises(MappingError, match="has no scores"):
        Composition(embedded().with_artifact(replace(embedded().artifact, scores=None))).under(31.0)


def test_a_category_with_finer_ones_is_read_at_the_prompts_own_or_the_most_frequent() -> None:
    categories = (*(name for name in embedded().categories if name != "law"), "law/1", "law/2", "law")
    scores = table(categories)
    shares = np.array([0.5 if name == "law/2" else 0.5 / (len(categories) - 1) for name in categories])
    mapping = ExpertMapping(
        dict(embedded().artifact.mapping.experts) | {"law/1": "math", "law/2": "medicine"},
        {"law/1": "law", "law/2": "law"},
    )
    artifact = replace(embedded().artifact, scores=replace(scores, shares=shares), mapping=mapping)
    composition = Composition(Router(artifact, embedder_named("minilm-l6-int8")))
    decision = composition.choose(talk(MATHS), category="law").decision
    assert (decision.category, decision.cluster, decision.expert) == ("law", "law/2", "medicine")
    named = composition.choose(talk(MATHS), category="law/1").decision
    assert (named.category, named.cluster, named.expert) == ("law", "law/1", "math")
    own = composition.choose(talk(LAW), category="law").decision
    assert own.cluster == "law"


def test_within_a_category_each_turn_is_read_at_its_own_finer_one() -> None:
    router = finer()
    composition = Composition(router, stay_margin=0)
    chef, skipper = (" ".join(words.split()[:9]) for words in GROUPS.values())
    alone = [router.decide(prompt) for prompt in (chef, skipper)]
    assert [each.category for each in alone] == ["chores", "chores"]
    assert [each.expert for each in alone] == ["chef", "skipper"]
    choice = composition.choose(talk(chef, skipper))
    assert (choice.by, choice.decision.cluster, choice.decision.expert) == (
        "map",
        alone[1].cluster,
        "skipper",
    )


def test_under_the_category_of_an_earlier_turn_the_finer_one_is_the_last_turns_own() -> None:
    router = finer()
    chef, skipper = (" ".join(words.split()[:9]) for words in GROUPS.values())
    doubtful = Doubting({skipper})
    choice = Composition(router, stay_margin=0, recall=Recall(doubtful)).choose(talk(chef, skipper))
    assert (choice.by, choice.sticky, choice.alone.category) == ("sticky", True, "general")
    assert (choice.decision.category, choice.decision.expert) == ("chores", "skipper")
    assert choice.decision.cluster == router.decide(skipper).cluster


class Doubting:
    """The finer router, in doubt about some prompts."""

    def __init__(self, doubted: set[str]) -> None:
        self._doubted = doubted

    def decide(self, prompt: str) -> Decision:
        decision = finer().decide(prompt)
        if prompt in self._doubted:
            return replace(decision, category="general", cluster="general", uncertain=True)
        return decision

    def cluster_in(self, label: str, prompt: str, decision: Decision) -> str:
        return finer().cluster_in(label, prompt, decision)


def test_a_conversation_leaves_its_expert_only_for_one_that_is_better_by_the_margin() -> None:
    """The small expert answers law, the larger one maths; a turn of maths after one of law."""
    router = with_scores()
    artifact = replace(router.artifact, mapping=replace(router.artifact.mapping, experts=law_to_general()))
    for margin, by, expert in ((39.0, "map", "math"), (41.0, "sticky", "general")):
        composition = Composition(router.with_artifact(artifact), stay_margin=margin)
        choice = composition.choose(talk(LAW, MATHS))
        assert (choice.by, choice.sticky, choice.decision.expert) == (by, by == "sticky", expert)
        assert choice.decision.category == choice.alone.category == "math"
        assert composition.choose(talk(MATHS, LAW)).decision.expert == "general", "never to a larger one"
    kept = Composition(router.with_artifact(artifact), stay_margin=41.0)
    passed = kept.choose(talk(LAW, MATHS), eligible={"math", "law"})
    assert (passed.by, passed.decision.expert) == ("eligibility", "math")
    with_all = Composition(router.with_artifact(artifact), margin=0, stay_margin=41.0)
    assert with_all.choose(talk(LAW, MATHS)).by == "map", "without stickiness each turn is by itself"


def test_a_conversation_never_keeps_its_expert_where_another_was_given_by_hand() -> None:
    router = with_scores()
    solved = replace(router.artifact.mapping, experts=law_to_general(), fixed=frozenset())
    for fixed, expert in ((frozenset[str](), "general"), (frozenset({"math"}), "math")):
        artifact = replace(router.artifact, mapping=replace(solved, fixed=fixed))
        composition = Composition(router.with_artifact(artifact), stay_margin=41.0)
        assert composition.choose(talk(LAW, MATHS)).decision.expert == expert
    by_hand = router.with_mapping({"general": "general", "math": "math"})
    assert Composition(by_hand, stay_margin=100.0).choose(talk(LAW, MATHS)).decision.expert == "math"


def law_to_general() -> dict[str, str]:
    return dict(embedded().artifact.mapping.experts) | {"law": "general"}
