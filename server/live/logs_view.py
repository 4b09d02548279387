"""Logs as they are told: the gateway's latest lines, and the ends of its engines' files."""

import logging
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.observation.log_lines import LogLines

MOST = 1000
"""Lines of one answer."""
PIECE = 256 * 1024
"""Bytes of an engine's file that are read at once."""
GATEWAY = "gateway"
_LEVEL = re.compile(rb"\b(DEBUG|INFO|WARNING|ERROR|CRITICAL)\b")


@dataclass(frozen=True, slots=True)
class LogPart:
    """A part of a log. ``next``: to go on from there."""

    lines: list[dict[str, Any]]
    next: int


def of_gateway(kept: LogLines, after: int, level: int) -> LogPart:
    """Lists the lines of ``level`` or more after the one of the number ``after``, the latest ``MOST``."""
    lines = [line for line in kept if line.number > after]
    shown = [
        {"at": line.at, "level": logging.getLevelName(line.level), "logger": line.logger, "text": line.text}
        for line in lines
        if line.level >= level
    ]
    return LogPart(shown[-MOST:], lines[-1].number if lines else after)


def engine_logs(folder: Path, families: Collection[str]) -> dict[str, Path]:
    """Returns the files that there are, by family. They outlive their engines."""
    return {family: file for family in families if (file := folder / f"{family}.log").is_file()}


def of_engine(file: Path, after: int, level: int) -> LogPart:
    """Lists the whole lines of ``level`` or more after the byte ``after``, at most the last ``PIECE``; a line
    without a level has that of the one before. A file that is shorter than ``after`` was begun anew. Raises
    OSError."""
    with file.open("rb") as log:
        size = log.seek(0, 2)
        begin = after if 0 < after <= size else 0
        cut = size - begin > PIECE
        log.seek(size - PIECE if cut else begin)
        raw = log.read(PIECE)
    start = log_start = (size - PIECE) if cut else begin
    if cut:  # in the middle of a line
        skipped = raw.find(b"\n") + 1
        raw, start = raw[skipped:], log_start + skipped
    whole = raw.rfind(b"\n") + 1
    shown, current = [], logging.INFO
    for line in raw[:whole].splitlines():
        found = _LEVEL.search(line[:200])
        current = logging.getLevelNamesMapping()[found[1].decode()] if found else current
        if current >= level:
            text = line.decode("utf-8", "replace")
            shown.append(
                {"at": None, "level": logging.getLevelName(current), "logger": file.stem, "text": text}
            )
    return LogPart(shown[-MOST:], start + whole)
