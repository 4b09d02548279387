"""Graded prompts whose label hides two groups: who cooks well answers one, who sails well the other."""

import json
import random
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from router.data.dataset import Example
from router.embedders.static import StaticMiniLm
from router.router import Router
from router.training.train import train

GROUPS = {
    "chef": "oven butter flour sugar whisk dough salt pepper roast simmer",
    "skipper": "mast rudder keel anchor harbour jib tiller starboard reef knot",
}
PLAIN = "shelf lamp window pencil paper basket ladder bucket mirror drawer"
SIZES = {"chat": 1.0, "chef": 7.0, "skipper": 7.0}


def hidden_file(folder: Path, each: int) -> str:
    """Writes the prompts of ``hidden`` as a command reads them, and returns the file."""
    file = folder / "data.jsonl"
    lines = (
        {"id": one.id, "prompt": one.prompt, "category": one.category, "scores": dict(one.scores)}
        for one in hidden(each)
    )
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return str(file)


def hidden(each: int = 150, seed: int = 1) -> list[Example]:
    """``each`` of a group, all of them labelled ``chores``, and as many of ``general``."""
    choose = random.Random(seed)

    def words(text: str) -> str:
        return " ".join(choose.choices(text.split(), k=9))

    chores = [
        Example(
            f"{seed}/{expert}/{number}",
            words(text),
            "chores",
            {"chat": 0.25, **{name: float(name == expert) for name in GROUPS}},
        )
        for expert, text in GROUPS.items()
        for number in range(each)
    ]
    even = {"chat": 0.5, "chef": 0.5, "skipper": 0.5}
    return chores + [Example(f"{seed}/plain/{n}", words(PLAIN), "general", even) for n in range(each)]


@cache
def finer() -> Router:
    """Trained once, for tests that only ask it or write it."""
    with TemporaryDirectory() as folder:
        return train(hidden(), Path(folder), experts=SIZES, embedder=StaticMiniLm())
