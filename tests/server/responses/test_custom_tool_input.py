"""The text that a custom tool is called with, whole and in pieces."""

import itertools
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as some

from server.responses.wire.custom_tool_input import ToolInput, arguments_of

TEXTS = some.text(some.characters(codec="utf-8"), max_size=60)


def read(*pieces: str) -> str:
    """What is told of it piece by piece is all of it."""
    given = ToolInput()
    told = [given.add(piece) for piece in pieces]
    told.append(given.end())
    assert "".join(told) == given.text
    given.text.encode()
    return given.text


@given(TEXTS, some.booleans(), some.lists(some.integers(0, 400), max_size=8))
@example('say "hi" \\ to 🙂\n', True, [1, 3, 5, 14, 17, 20, 22, 24, 26, 28, 30, 32, 34, 36])
def test_a_text_is_the_same_however_it_is_cut_and_escaped(text: str, plain: bool, cuts: list[int]) -> None:
    arguments = arguments_of(text) if plain else json.dumps({"input": text}, indent=2)
    ends = [0, *sorted(min(cut, len(arguments)) for cut in cuts), len(arguments)]
    pieces = [arguments[begin:end] for begin, end in itertools.pairwise(ends)]
    assert read(*pieces) == text


def test_it_comes_as_the_pieces_do() -> None:
    given = ToolInput()
    told = [given.add(piece) for piece in ('{"in', 'put": "one', " two\\", "n\\ud83d", '\\ude42"', "}")]
    assert told == ["", "one", " two", "\n", "🙂", ""]
    assert given.end() == ""


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ('{"input": "cut o', "cut o"),
        ('{"input": "cut o\\', "cut o"),
        ('{"input": "a\nb"}', "a\nb"),  # a raw line break, which strict JSON has not
        ('{"input": "a", "input": "b"}', "a"),
        ('{"input": "half \\ud83d!"}', "half ?!"),
        ('{"other": 1, "input": "late"}', "late"),
        ('{"text": "print(1)"}', '{"text": "print(1)"}'),
        ('{"input": 5}', '{"input": 5}'),
        ("print(1)", "print(1)"),
        ("", ""),
    ],
)
def test_what_is_not_what_was_asked_for_is_taken_for_what_it_is(arguments: str, text: str) -> None:
    assert read(arguments) == text
    assert read(*arguments) == text
