import gzip
import random
from pathlib import Path

import pytest

from router.dataset import Example, first_sentence_of, plain_copies, question_of, read_examples, split
from router.errors import DatasetError


def written(tmp_path: Path, *lines: str) -> Path:
    file = tmp_path / "data.jsonl"
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def test_lines_become_examples_and_other_fields_are_ignored(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        '{"id": "a", "prompt": "Add 1.", "category": "math", "scores": {"small": 0, "large": 0.5}, "x": 1}',
        "",
        '{"id": "b", "prompt": "Hello"}',
    )
    assert read_examples(file) == [
        Example("a", "Add 1.", "math", {"small": 0.0, "large": 0.5}),
        Example("b", "Hello"),
    ]


def test_gzip_is_read_like_plain_text(tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl.gz"
    file.write_bytes(gzip.compress(b'{"id": "a", "prompt": "Hello"}\n'))
    assert read_examples(file) == [Example("a", "Hello")]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "Invalid JSON"),
        ("[]", "object"),
        ('{"prompt": "no id"}', "id: Field required"),
        ('{"id": "x", "prompt": ""}', "prompt: .*at least 1"),
        ('{"id": 7, "prompt": "Hi"}', "id: .*string"),
        ('{"id": "x", "prompt": "Hi", "scores": {"large": 2}}', r"scores\.large: .*less than or equal to 1"),
        ('{"id": "x", "prompt": "Hi", "category": ""}', "category: .*at least 1"),
        ('{"id": "a", "prompt": "again"}', "'a' was already used in line 1"),
        ("\udcff", "Invalid"),
    ],
)
def test_a_wrong_line_is_reported_with_its_number(tmp_path: Path, line: str, complaint: str) -> None:
    file = tmp_path / "data.jsonl"
    text = '{"id": "a", "prompt": "fine"}\n\n' + line
    file.write_bytes(text.encode("utf-8", errors="surrogateescape"))
    with pytest.raises(DatasetError, match=f"^line 3: .*{complaint}") as caught:
        read_examples(file)
    assert caught.value.line == 3


def test_a_file_without_lines_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="has no lines"):
        read_examples(written(tmp_path, "", ""))


def test_a_missing_file_and_a_truncated_gzip_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be read"):
        read_examples(tmp_path / "nowhere.jsonl")
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(gzip.compress(b'{"id": "a", "prompt": "Hello"}\n' * 100)[:30])
    with pytest.raises(DatasetError, match="cannot be read"):
        read_examples(cut)


@pytest.mark.parametrize("options", ["\nA. 1\nB. 2", "\n(A) 1\n(B) 2", "\nOptions:\n(A) 1", "\nA) 1\nB) 2"])
def test_a_question_is_the_prompt_without_its_options(options: str) -> None:
    assert question_of("It rains. How many drops fall?" + options) == "It rains. How many drops fall?"


def test_a_sentence_that_begins_with_a_letter_is_no_option() -> None:
    assert question_of("Consider this.\nA force acts on a ball.") == "Consider this.\nA force acts on a ball."


def test_copies_are_the_question_and_its_first_sentence_in_the_same_category() -> None:
    example = Example(
        "e", "A ball falls from a tower. How fast is it?\nA. 1\nB. 2", "physics", {"large": 1.0}
    )
    assert plain_copies(example) == [
        Example("e#question", "A ball falls from a tower. How fast is it?", "physics", kind="question"),
        Example("e#sentence", "A ball falls from a tower.", "physics", kind="sentence"),
    ]


def test_a_prompt_that_is_plain_already_and_one_too_short_get_no_copies() -> None:
    assert first_sentence_of("Find the area of a circle.") == "Find the area of a circle."
    assert plain_copies(Example("e", "Find the area of a circle.")) == []
    assert plain_copies(Example("e", "Solve it now:\nA. 1\nB. 2")) == []


def numbered(count: int) -> list[Example]:
    words = random.Random(0)
    return [Example(f"id/{i}", " ".join(words.choices("abcdefghijklmnop", k=30))) for i in range(count)]


def test_a_split_is_80_10_10_and_does_not_depend_on_order() -> None:
    examples = numbered(2000)
    parts = split(examples)
    assert sorted(e.id for part in (parts.fit, parts.calibration, parts.held_out) for e in part) == sorted(
        e.id for e in examples
    )
    assert 1500 < len(parts.fit) < 1700
    assert 150 < len(parts.calibration) < 250
    backwards = split(examples[::-1])
    assert {e.id for e in backwards.held_out} == {e.id for e in parts.held_out}


@pytest.mark.parametrize(
    "twist",
    [
        lambda text: text + "\nA. 1\nB. 2",
        lambda text: text.replace("17", "23"),
        lambda text: text.replace("river", "stream"),
        lambda text: text.upper(),
    ],
    ids=["options", "number", "word", "case"],
)
def test_near_twins_are_in_the_same_part(twist: object) -> None:
    assert callable(twist)
    base = [
        Example(f"a/{i}", f"{e.prompt} a boat crosses the river with speed 17 and the wind is weak now")
        for i, e in enumerate(numbered(200))
    ]
    twins = [Example(f"b/{i}", twist(e.prompt)) for i, e in enumerate(base)]
    parts = split([*base, *twins])
    for part in (parts.fit, parts.calibration, parts.held_out):
        ids = {e.id for e in part}
        assert {i.replace("b/", "a/") for i in ids} <= ids
