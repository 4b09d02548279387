"""The texts that ``scripts/router/distil_static.py`` takes from the routing data."""

import json
from pathlib import Path

from router.data.dataset import Example, split
from router.data.plain_prompts import plain_prompts
from scripts.router.distil_static import first_sentence_of, prompts

PROMPT = "A ball falls from a tower. How fast is it?\nA. 1\nB. 2"


def test_a_prompt_is_read_whole_without_its_options_and_by_its_first_sentence(tmp_path: Path) -> None:
    names = [name for name in map(str, range(40)) if split([Example(name, PROMPT)]).fit]
    file = tmp_path / "data.jsonl"
    file.write_text(json.dumps({"id": names[0], "prompt": PROMPT}) + "\n")
    plain = [example.prompt for example in plain_prompts()]
    assert list(prompts(file)) == [
        PROMPT,
        "A ball falls from a tower. How fast is it?",
        "A ball falls from a tower.",
        *plain,
    ]


def test_what_says_too_little_is_left_out(tmp_path: Path) -> None:
    names = [name for name in map(str, range(40)) if split([Example(name, "Why?")]).fit]
    file = tmp_path / "data.jsonl"
    file.write_text(json.dumps({"id": names[0], "prompt": "Solve it now:\nA. 1\nB. 2"}) + "\n")
    assert list(prompts(file))[:2] == ["Solve it now:\nA. 1\nB. 2", plain_prompts()[0].prompt]
    assert first_sentence_of("Find the area of a circle.") == "Find the area of a circle."
