from collections.abc import Mapping

import pytest

from router.conversations.conversation import is_follow_up, prompt_of, prompts_of


def user(content: object) -> Mapping[str, object]:
    return {"role": "user", "content": content}


def assistant(content: object) -> Mapping[str, object]:
    return {"role": "assistant", "content": content}


def test_the_last_user_turn_is_what_the_person_asks() -> None:
    messages = [
        {"role": "system", "content": "You are a lawyer."},
        user("What is a tort?"),
        assistant("A civil wrong."),
        user("Write a Python function that sorts a list."),
    ]
    assert prompt_of(messages) == "Write a Python function that sorts a list."


def test_tool_results_and_answers_are_left_out() -> None:
    messages = [
        user("What is the weather in Vienna?"),
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "tool", "content": "def f(): pass", "tool_call_id": "1"},
    ]
    assert prompt_of(messages) == "What is the weather in Vienna?"


def test_only_text_parts_are_language() -> None:
    parts = [
        {"type": "text", "text": "What is this rash?"},
        {"type": "image_url", "image_url": {"url": "data:..."}},
        {"type": "text", "text": "It itches."},
        "stray",
        {"type": "text", "text": 7},
    ]
    assert prompt_of([user(parts)]) == "What is this rash?\nIt itches."


def test_a_bare_follow_up_brings_the_turn_it_follows() -> None:
    messages = [user("Is my lease valid without a signature?"), assistant("Often."), user("And why?")]
    assert prompt_of(messages) == "Is my lease valid without a signature?\nAnd why?"


def test_a_chain_of_follow_ups_reaches_back_to_its_topic() -> None:
    messages = [
        user("Hello"),
        user("Derive the quadratic formula."),
        user("Why?"),
        user("Explain that again"),
    ]
    assert prompt_of(messages) == "Derive the quadratic formula.\nWhy?\nExplain that again"


def test_each_of_the_last_turns_has_the_prompt_it_had_then() -> None:
    messages = [
        user("Hello there, friend"),
        user("Derive the quadratic formula."),
        assistant("So."),
        user("Why?"),
    ]
    assert prompts_of(messages, last=2) == [
        "Derive the quadratic formula.",
        "Derive the quadratic formula.\nWhy?",
    ]
    user_turns = [index for index, message in enumerate(messages, 1) if message["role"] == "user"]
    assert prompts_of(messages, last=9) == [prompt_of(messages[:turn]) for turn in user_turns]
    assert prompts_of([], last=3) == []


def test_a_follow_up_without_anything_before_stands_alone() -> None:
    assert prompt_of([user("and why?")]) == "and why?"


@pytest.mark.parametrize("messages", [[], [assistant("Hi")], [user(None)], [user([])], [user("  ")]])
def test_no_words_of_the_person_are_an_empty_prompt(messages: list[Mapping[str, object]]) -> None:
    assert prompt_of(messages) == ""


@pytest.mark.parametrize(
    "text",
    [
        "and why?",
        "Why?",
        "continue",
        "What about Canada?",
        "Is it safe?",
        "thanks!",
        "👍",
        "In more detail please",
    ],
)
def test_these_lean_on_what_was_said(text: str) -> None:
    assert is_follow_up(text)


@pytest.mark.parametrize(
    "text",
    ["What is a tort?", "Solve x + 1 = 3", "Write a poem", "I fell on my knee and now this bone hurts badly"],
)
def test_these_bring_their_own_topic(text: str) -> None:
    assert not is_follow_up(text)
