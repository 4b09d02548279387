"""The progress of long work on a checkpoint, which the command line shows as bars."""

from collections.abc import Callable
from typing import Literal

Stage = Literal["download", "write", "hash", "canary"]
Progress = Callable[[Stage, int, int], None]
"""Is told the stage, the bytes done and the bytes in all (of a canary: 0 or 1 of 1), which grow only within a
stage."""


def silent(stage: Stage, done: int, total: int) -> None:
    """Ignores the progress."""
