"""The split that the perplexities rest on: no held-out text has a near copy among the training texts."""

import re
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
sys.path.append(str(Path(__file__).parents[3]))

from scripts.embedded.domain_texts import TWIN_OVERLAP, Text, library_texts, sample, split, twin_groups


def text(name: str, content: str) -> Text:
    return Text(name, (("user", content),))


def overlap(one: Text, other: Text) -> float:
    a, b = (set(re.findall(r"\w+", each.scored.lower())) for each in (one, other))
    return len(a & b) / len(a | b)


def test_twins_are_joined_through_others_too() -> None:
    texts = [
        text("a", "one two three four"),
        text("x", "something else entirely"),
        text("c", "three four five six"),
        text("b", "two three four five one six"),
    ]
    assert twin_groups(texts) == ["a", "x", "a", "a"]


def test_no_held_out_text_of_the_standard_library_has_a_twin_in_training() -> None:
    training, held_out = split(library_texts())
    assert len(held_out) > 100
    assert not any(overlap(one, other) > TWIN_OVERLAP for one in held_out for other in training)


def test_a_sample_does_not_depend_on_the_order() -> None:
    texts = [text(str(number), "content") for number in range(50)]
    assert sample(texts, 10) == sample(texts[::-1], 10)


def test_methods_are_no_functions_to_ask_for() -> None:
    assert not any(re.match(r"```python\ndef \w+\((self|cls)\b", each.scored) for each in library_texts())
