import random
import string
from dataclasses import replace
from pathlib import Path

import pytest

import router
from router.composition import Composition
from router.data.plain_prompts import plain_prompts
from router.router import Router

HELD_OUT = Path(__file__).with_name("plain_prompts_held_out.txt")
STRANGE = [
    "",
    " ",
    "asdkjh qwe zxc",
    "Mi a magyar fővárosa?",
    "東京の人口は何人ですか。",
    "∮ §§ ⟨ψ|φ⟩",
    "\ud800",
]


@pytest.fixture(scope="module")
def shipped() -> Router:
    return Router.load(Path(router.__file__).parent / "embedded")


def prompts() -> list[str]:
    known = [example.prompt for example in plain_prompts()]
    return [*known[::6], *HELD_OUT.read_text(encoding="utf-8").splitlines(), *STRANGE]


def test_what_is_decided_together_is_decided_as_by_itself(shipped: Router) -> None:
    asked = prompts()
    for decision, prompt in zip(shipped.decide_quickly(asked), asked, strict=True):
        alone = shipped.decide(prompt)
        if decision is not None:
            assert decision.confidence == pytest.approx(alone.confidence, abs=1e-5)
            assert replace(alone, confidence=0.0, probabilities={}, others={}, seconds=0.0) == replace(
                decision, confidence=0.0, probabilities={}, others={}, seconds=0.0
            )
            assert [*decision.probabilities] == [*alone.probabilities]


def test_a_decision_does_not_depend_on_its_company(shipped: Router) -> None:
    asked = prompts()
    together = shipped.decide_quickly(asked)
    for size in (1, 7):
        parts = [asked[place : place + size] for place in range(0, len(asked), size)]
        apart = [decision for part in parts for decision in shipped.decide_quickly(part)]
        named = [decision and (decision.category, decision.expert) for decision in apart]
        assert named == [decision and (decision.category, decision.expert) for decision in together]


def test_the_strange_and_the_unsure_are_left_to_be_decided_by_themselves(shipped: Router) -> None:
    assert shipped.decide_quickly(STRANGE[:6]) == [None] * 6
    assert shipped.decide_quickly([]) == []
    decided = [decision is not None for decision in shipped.decide_quickly(prompts())]
    assert sum(decided) > len(decided) / 2


def test_gibberish_is_read_twice_and_goes_to_general(shipped: Router) -> None:
    draw = random.Random(0)
    written = [
        "".join(draw.choices(letters, k=draw.randint(5, 160)))
        for letters in [string.ascii_lowercase + "   "] * 60 + [string.punctuation + string.digits + " "] * 40
    ]
    assert shipped.decide_quickly(written) == [None] * 100
    assert {shipped.decide(prompt).category for prompt in written} == {"general"}


def test_a_router_without_a_quick_stage_decides_nothing_quickly(shipped: Router) -> None:
    slow = Router(replace(shipped.artifact, quick=None), shipped.embedder)
    assert slow.decide_quickly(["What is 2+2?"]) == [None]


def test_a_composition_chooses_after_reading_ahead_without_reading_again(shipped: Router) -> None:
    composition = Composition(shipped)
    talks = [[{"role": "user", "content": text}] for text in ("Solve x^2 - 5x + 6 = 0 for x.", "asdkjh qwe")]
    assert composition.read_ahead(talks) == [True, False]
    assert composition.read_ahead(talks) == [True, False]
    assert composition.choose(talks[0]).decision.category == "math"
    composition.choose(talks[1])
    assert composition.read_ahead(talks) == [True, True]
