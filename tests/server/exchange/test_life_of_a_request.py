"""The page on a request's life is true: a request runs through the files that it names, in their order."""

import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from server.config.settings import Settings
from tests.server.conftest import ROOT, Serving

PAGE = ROOT / "docs" / "concepts" / "life-of-a-request.md"
TURNS = ["What is the derivative of x^3?", "And the integral of x^2 from 0 to 3?"]


def stops() -> list[tuple[str, list[str]]]:
    """The numbered stops, each with its files that a simulated engine runs through too."""
    text = PAGE.read_text(encoding="utf-8")
    items = re.findall(r"^\d\. \*\*(\w+)\.\*\*(.*?)(?=^\d\. |^\S)", text, re.MULTILINE | re.DOTALL)
    return [
        (name, re.findall(r"`((?:server|router|memory_tiers)/[\w/]+\.py)`", " ".join(item.split())))
        for name, item in items
    ]


@contextmanager
def called() -> Iterator[list[str]]:
    """The files of ours whose functions are called, in the order of their first call."""
    found: dict[str, None] = {}

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            found.setdefault(frame.f_code.co_filename)

    threading.setprofile(note)
    sys.setprofile(note)
    names: list[str] = []
    try:
        yield names
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
        files = [Path(name) for name in found]
        names += [file.relative_to(ROOT).as_posix() for file in files if file.is_relative_to(ROOT)]


async def test_a_request_runs_through_the_files_of_its_page(serving: Serving, settings: Settings) -> None:
    conversation = [
        {"role": "user", "content": TURNS[0]},
        {"role": "assistant", "content": "3x^2"},
        {"role": "user", "content": TURNS[1]},
    ]
    async with serving(settings) as gateway:
        with called() as files:
            answer = await gateway.post(model="coe", messages=conversation, stream=True, max_tokens=4)
    assert answer.status_code == 200
    assert len(stops()) == 7
    for name, named in stops():
        assert [file for file in named if file not in files] == [], name
    first = [files.index(named[0]) for _, named in stops() if named]
    assert first == sorted(first)
