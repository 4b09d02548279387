"""How long work on a checkpoint tells how far it is. The command line turns it into progress bars."""

from collections.abc import Callable
from typing import Literal

Stage = Literal["download", "write", "hash", "canary"]
Progress = Callable[[Stage, int, int], None]
"""Called with the stage, the bytes done and the bytes in all (of a canary: 0 or 1 of 1); both grow only
within one stage."""


def silent(stage: Stage, done: int, total: int) -> None:
    """The progress of a caller who does not look."""
