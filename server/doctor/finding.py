"""A finding of the doctor: how one part is, and what to do."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """``part``: what was examined. ``said``: how it is; ``do``: what to do where it is not ok."""

    part: str
    level: Level
    said: str
    do: str = ""


def ok(part: str, said: str) -> Finding:
    return Finding(part, "ok", said)


def warning(part: str, said: str, do: str) -> Finding:
    return Finding(part, "warning", said, do)


def error(part: str, said: str, do: str) -> Finding:
    return Finding(part, "error", said, do)
