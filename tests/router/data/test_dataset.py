import gzip
import random
from pathlib import Path

import pytest

from router.data.dataset import Example, folds, question_of, read_examples, split
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
    with pytest.raises(DatasetError, match=rf"data\.jsonl, line 3: .*{complaint}") as caught:
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


@pytest.mark.parametrize("place", [0, 12, 40, -6], ids=["header", "first block", "data", "checksum"])
def test_a_damaged_gzip_is_an_error_wherever_the_damage_is(tmp_path: Path, place: int) -> None:
    texts = [f'{{"id": "{number}", "prompt": "Hello {number * 7919}"}}\n' for number in range(100)]
    content = bytearray(gzip.compress("".join(texts).encode()))
    content[place] ^= 0xFF
    damaged = tmp_path / "damaged.jsonl.gz"
    damaged.write_bytes(content)
    with pytest.raises(DatasetError, match=r"damaged\.jsonl\.gz( cannot be read|, line \d+: )"):
        read_examples(damaged)


@pytest.mark.parametrize("options", ["\nA. 1\nB. 2", "\n(A) 1\n(B) 2", "\nOptions:\n(A) 1", "\nA) 1\nB) 2"])
def test_a_question_is_the_prompt_without_its_options(options: str) -> None:
    assert question_of("It rains. How many drops fall?" + options) == "It rains. How many drops fall?"


def test_a_sentence_that_begins_with_a_letter_is_no_option() -> None:
    assert question_of("Consider this.\nA force acts on a ball.") == "Consider this.\nA force acts on a ball."


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


def test_folds_are_even_by_id_and_keep_near_twins_together() -> None:
    examples = [
        Example(f"a/{i}", f"{e.prompt} a boat crosses the river with speed 17 and the wind is weak now")
        for i, e in enumerate(numbered(400))
    ]
    twins = [Example(f"b/{i}", e.prompt.replace("17", "23")) for i, e in enumerate(examples)]
    found = folds([*examples, *twins], 5)
    assert (found[:400] == found[400:]).all()
    assert (found[:400] == folds(examples, 5)).all()
    assert set(found) == set(range(5))
    assert min((found == fold).mean() for fold in range(5)) > 0.12
