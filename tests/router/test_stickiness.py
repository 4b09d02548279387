"""A topic that clearly moves moves; noise does not."""

import random
from collections.abc import Sequence

import pytest

from router.decision import Decision
from router.stickiness import MARGIN, settled, stays

CATEGORIES = ("general", "math", "law", "code")


def turn(category: str, probability: float = 0.9, *, over: str = "", uncertain: bool = False) -> Decision:
    """``over`` has the rest; without it the others share it."""
    rest = [name for name in CATEGORIES if name != category]
    shares = {name: (1 - probability) * (name == over if over else 1 / len(rest)) for name in rest}
    chosen = "general" if uncertain else category
    return Decision(
        chosen, f"{chosen}/1", probability, {category: probability, **shares}, uncertain, "", {}, 0.0
    )


def path(turns: Sequence[Decision], margin: float = MARGIN) -> list[str]:
    """The category at each turn of a conversation."""
    return [settled(turns[: count + 1], margin).category for count in range(len(turns))]


def test_a_conversation_stays_with_its_category_where_another_is_not_clearly_ahead() -> None:
    assert path([turn("math"), turn("law", 0.6, over="math"), turn("math")]) == ["math", "math", "math"]


def test_a_topic_that_clearly_moves_moves_and_stays_moved() -> None:
    assert path([turn("math"), turn("law"), turn("code", 0.5, over="law")]) == ["math", "law", "law"]


def test_a_turn_that_is_uncertain_does_not_move_it() -> None:
    assert path([turn("math"), turn("law", 0.9, uncertain=True)]) == ["math", "math"]


def test_where_nothing_was_certain_yet_the_first_certain_turn_decides() -> None:
    turns = [turn("math", 0.3, uncertain=True), turn("law", 0.5, over="general"), turn("math")]
    assert path(turns) == ["general", "law", "math"]


def test_without_a_margin_every_turn_is_decided_by_itself() -> None:
    turns = [turn("math"), turn("law", 0.5, over="math"), turn("code", 0.9, uncertain=True)]
    assert path(turns, 0) == ["math", "law", "general"]


@pytest.mark.parametrize("seed", range(200))
def test_noise_never_moves_it_and_a_clear_move_always_does(seed: int) -> None:
    """Noise: uncertain turns, and certain ones whose lead over the topic is under the margin."""
    choose = random.Random(seed)
    topic, new = choose.sample(CATEGORIES[1:], 2)
    margin = choose.uniform(0.05, 0.9)
    others = [name for name in CATEGORIES if name != topic]

    def noise() -> Decision:
        if choose.random() < 0.5:
            return turn(choose.choice(others), choose.random(), uncertain=True)
        lead = choose.uniform(0, margin * 0.999)
        return turn(choose.choice(others), (1 + lead) / 2, over=topic)

    before = [turn(topic), *(noise() for _ in range(choose.randrange(8)))]
    assert set(path(before, margin)) == {topic}
    clear = turn(new, choose.uniform((1 + margin) / 2 + 1e-9, 1), over=topic)
    assert path([*before, clear], margin)[-1] == new


@pytest.mark.parametrize("seed", range(50))
def test_the_answer_is_always_a_turns_own_and_never_an_uncertain_one_after_a_certain_one(seed: int) -> None:
    choose = random.Random(seed)
    turns = [
        turn(choose.choice(CATEGORIES), choose.random(), uncertain=choose.random() < 0.4)
        for _ in range(choose.randrange(1, 9))
    ]
    kept = settled(turns)
    assert any(kept is each for each in turns)
    if any(not each.uncertain and each.category != "general" for each in turns):
        assert not kept.uncertain


def test_an_expert_stays_where_it_is_no_larger_and_the_other_hardly_better() -> None:
    sizes = {"general": 1.0, "math": 11.0, "law": 21.0, "stranger": 1.0}
    scores = {"general": 0.5, "math": 0.9, "law": 0.9}
    assert stays(scores, sizes, "math", "math", 0.0)
    assert not stays(scores, sizes, "general", "math", 39.9), "maths is 40 points better at maths"
    assert stays(scores, sizes, "general", "math", 40.1)
    assert not stays(scores, sizes, "law", "math", 100.0), "law is larger: a budget would not hold"
    assert not stays({}, sizes, "general", "math", 100.0), "nothing is known of that row"
    assert not stays(scores, sizes, "stranger", "math", 100.0)
