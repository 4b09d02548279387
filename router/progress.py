"""How long work reports how far it has come."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with the stage, how many of its steps are done, and how many there are."""


def silent(stage: str, done: int, total: int) -> None:
    """Reports nothing."""
