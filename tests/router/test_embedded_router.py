"""The router committed for the embedded composition, on prompts it was not trained on."""

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

import router
from router.data.plain_prompts import plain_prompts
from router.decision import SLIGHT, Decision
from router.router import Router

EMBEDDED = Path(router.__file__).parent / "embedded"
HELD_OUT = Path(__file__).with_name("plain_prompts_held_out.txt")


@cache
def embedded() -> Router:
    return Router.load(EMBEDDED)


@cache
def decided(prompt: str) -> Decision:
    return embedded().decide(prompt)


@pytest.mark.parametrize(
    ("prompt", "category", "expert"),
    [
        ("What is the integral of x^2?", "math", "math"),
        ("Write a Python function that reverses a list.", "code", "coding"),
        ("What are the symptoms of pneumonia?", "health", "medicine"),
        ("Can my landlord evict me without notice?", "law", "law"),
        ("What is the capital of Italy?", "general", "general"),
    ],
)
def test_a_plain_prompt_reaches_its_expert(prompt: str, category: str, expert: str) -> None:
    decision = decided(prompt)
    assert (decision.category, decision.expert, decision.uncertain) == (category, expert, False)


def test_most_held_out_plain_prompts_reach_their_category_and_expert() -> None:
    examples = plain_prompts(HELD_OUT)
    categories = [decided(example.prompt).category == example.category for example in examples]
    experts = [
        decided(example.prompt).expert == embedded().artifact.mapping[example.category or ""]
        for example in examples
    ]
    assert len(examples) >= 60
    assert sum(categories) / len(examples) >= 0.9  # 0.973 when trained; another processor may round otherwise
    assert sum(experts) / len(examples) >= 0.9


def test_held_out_prompts_are_not_among_those_trained_on() -> None:
    assert not {e.prompt for e in plain_prompts(HELD_OUT)} & {e.prompt for e in plain_prompts()}


@pytest.mark.parametrize(
    "prompt",
    ["", "   \n", "xkcd blorf gnarp wibble", "qwkjhe lkjasd 3kj2h lkj zzz", "!!!! ???", "aaaaaaaaaaaaaaa"],
)
def test_gibberish_and_nothing_go_to_general(prompt: str) -> None:
    assert decided(prompt).category == "general"


def test_nearly_all_made_up_words_go_to_general() -> None:
    choose = random.Random(0)

    def word() -> str:
        return "".join(choose.choices("abcdefghijklmnopqrstuvwxyz", k=choose.randint(3, 8)))

    texts = [" ".join(word() for _ in range(choose.randint(3, 6))) for _ in range(60)]
    assert sum(decided(text).category == "general" for text in texts) >= 55


@pytest.mark.parametrize(
    "prompt",
    ["The quarterback threw a touchdown in overtime", "Best strategy to beat the final boss in Elden Ring"],
)
def test_a_domain_it_has_not_seen_is_uncertain(prompt: str) -> None:
    decision = decided(prompt)
    assert decision.uncertain
    assert decision.expert == "general"


def test_a_decision_says_how_probable_the_other_experts_are() -> None:
    decision = decided("Can a surgeon be sued for malpractice by a patient?")
    mapping, chances = embedded().artifact.mapping, decision.probabilities
    medicine = sum(chance for category, chance in chances.items() if mapping[category] == "medicine")
    assert decision.expert == "law"
    assert decision.others["medicine"] == pytest.approx(medicine)
    assert "law" not in decision.others
    assert min(decision.others.values()) >= SLIGHT


def test_several_threads_decide_as_one_does_by_itself_whatever_came_before() -> None:
    prompts = [example.prompt for example in plain_prompts(HELD_OUT)[:12]]
    alone = {prompt: replace(Router.load(EMBEDDED).decide(prompt), seconds=0.0) for prompt in prompts}
    router, asked = Router.load(EMBEDDED), [*reversed(prompts)] * 4
    with ThreadPoolExecutor(4) as threads:
        for prompt, decision in zip(asked, threads.map(router.decide, asked), strict=True):
            assert replace(decision, seconds=0.0) == alone[prompt]


def test_its_manifest_says_what_was_measured_and_its_folder_is_small() -> None:
    measured = embedded().artifact.cross_validated
    assert measured.accuracy > 0.85
    assert measured.expected_calibration_error < 0.03
    assert sum(file.stat().st_size for file in EMBEDDED.iterdir()) < 8_000_000


def test_its_experts_are_those_of_the_embedded_composition() -> None:
    assert embedded().experts == ("coding", "general", "law", "math", "medicine")
    assert repr(embedded()) == (
        "<Router minilm-l6-int8: 18 categories -> coding, general, law, math, medicine>"
    )
