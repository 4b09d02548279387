from collections import Counter
from pathlib import Path

import pytest

from router.data.plain_prompts import plain_prompts
from router.errors import DatasetError


def test_headings_name_the_category_of_the_lines_below(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("[math]\nAdd 1 and 2.\n\n[law]\nMay I?\n")
    found = plain_prompts(file)
    assert [(e.id, e.prompt, e.category) for e in found] == [
        ("plain/math/2", "Add 1 and 2.", "math"),
        ("plain/law/5", "May I?", "law"),
    ]
    assert all(e.kind == "plain" for e in found)


def test_a_prompt_before_the_first_heading_is_reported_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("\nAdd 1 and 2.\n")
    with pytest.raises(DatasetError, match="line 2"):
        plain_prompts(file)


def test_the_shipped_prompts_are_many_and_each_once() -> None:
    shipped = plain_prompts()
    counts = Counter(e.category for e in shipped)
    assert counts["general"] >= 150
    assert all(counts[category] >= 60 for category in ("math", "code", "health", "law"))
    assert len({e.prompt for e in shipped}) == len(shipped)
