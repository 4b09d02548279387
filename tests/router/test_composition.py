"""A conversation with the embedded router."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest

import router
from router.composition import Composition
from router.decision import Decision
from router.errors import MappingError, NoEligibleError
from router.pipeline import Router
from router.recall import Recall

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
