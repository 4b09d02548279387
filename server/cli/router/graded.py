"""Files of graded prompts, as several verbs of ``coe router`` take them."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from router.data.dataset import Example

GRADED = "JSON lines with id, prompt, category, scores (.gz too)"


def add_artifact(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--artifact", type=Path, required=True, help="folder of the artifact")


def part_of(examples: "list[Example]", *, apart: bool) -> "list[Example]":
    """Leaves the held-out tenth out of ``examples``, or with ``apart`` keeps that alone."""
    from router.data.dataset import split

    parts = split(examples)
    held_out = {example.id for example in parts.held_out}
    return [example for example in examples if (example.id in held_out) == apart]
