"""Logs as they are told: the gateway's latest lines, and the ends of its engines' files."""

import logging
import os
import re
from collections.abc import Collection
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from server.observation.log_lines import LogLines

MOST = 1000
"""Lines of one answer."""
PIECE = 256 * 1024
"""Bytes of an engine's file that are read at once."""
GATEWAY = "gateway"
ANOTHER_RUN = "--- another run of the engine ---"
_PLACES = 2**40
"""Places in a file: ``next`` is the run of an engine, times this, and a place in its file. Browsers keep it
exactly."""
_LEVEL = re.compile(rb"\b(DEBUG|INFO|WARNING|ERROR|CRITICAL)\b")


@dataclass(frozen=True, slots=True)
class LogPart:
    """A part of a log. ``next``: to go on from there. ``anew``: it does not go on from where it was asked."""

    lines: list[dict[str, Any]]
    next: int
    anew: bool = False


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
    logs = {family: folder / f"{family}.log" for family in families}
    return {family: file for family, file in logs.items() if file.is_file() or _before(file).is_file()}


def of_engine(file: Path, after: int, level: int) -> LogPart:
    """Lists the whole lines of ``level`` or more after an earlier part's ``next``, of a file at most the last
    ``PIECE``; a line without a level has that of the one before. The log of the engine's run before this one
    lies beside ``file``: it comes first, so that who follows reads how an engine ended. A file that is
    shorter than it was is begun anew. Raises OSError."""
    run, place = divmod(after, _PLACES)
    with ExitStack() as opened:
        logs = _runs(file, opened)
        runs = [_run_of(log) for log in logs]
        known = after > 0 and run in runs
        begin = runs.index(run) if known else 0
        anew = after > 0 and (not known or place > os.fstat(logs[begin].fileno()).st_size)
        lines: list[dict[str, Any]] = []
        end = 0
        for at, log in enumerate(logs[begin:], begin):
            part, end = _read(log, place if known and at == begin and not anew else 0, file.stem, level)
            if at > 0 and (lines or begin < at):
                lines.append({"at": None, "level": "INFO", "logger": file.stem, "text": ANOTHER_RUN})
            lines += part
    return LogPart(lines[-MOST:], runs[-1] * _PLACES + end if runs else 0, anew)


def _before(file: Path) -> Path:
    return file.with_name(f"{file.name}.1")


def _runs(file: Path, opened: ExitStack) -> list[BinaryIO]:
    """Opens the logs of the last two runs, the earlier first. One that is moved aside meanwhile is the same
    file, and is opened once."""
    logs: list[BinaryIO] = []
    for path in (file, _before(file)):
        with suppress(FileNotFoundError):
            log = opened.enter_context(path.open("rb"))
            if not logs or not os.path.sameopenfile(log.fileno(), logs[0].fileno()):
                logs.insert(0, log)
    return logs


def _run_of(log: BinaryIO) -> int:
    """Returns a number of the file that it keeps when it is moved aside."""
    return os.fstat(log.fileno()).st_ino % 4096


def _read(log: BinaryIO, begin: int, logger: str, level: int) -> tuple[list[dict[str, Any]], int]:
    """Returns the whole lines from ``begin``, and where they end."""
    size = log.seek(0, 2)
    start = max(begin, size - PIECE)
    log.seek(start)
    raw = log.read(PIECE)
    if start > begin:  # in the middle of a line
        skipped = raw.find(b"\n") + 1
        raw, start = raw[skipped:], start + skipped
    whole = raw.rfind(b"\n") + 1
    shown, current = [], logging.INFO
    for line in raw[:whole].splitlines():
        found = _LEVEL.search(line[:200])
        current = logging.getLevelNamesMapping()[found[1].decode()] if found else current
        if current >= level:
            text = line.decode("utf-8", "replace")
            shown.append({"at": None, "level": logging.getLevelName(current), "logger": logger, "text": text})
    return shown, start + whole
