"""The latest lines of the gateway's log."""

import itertools
import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line. ``number`` is never given twice. ``at``: seconds since 1970."""

    number: int
    at: float
    level: int
    logger: str
    text: str


class LogLines(logging.Handler):
    """Keeps the text of what is logged, and no object that was logged: an error holds on to all that its
    frames held."""

    def __init__(self, keep: int) -> None:
        super().__init__()
        self._kept: deque[tuple[int, float, int, str, str]] = deque(maxlen=keep)  # of a LogLine's fields
        self._numbers = itertools.count(1)

    def __repr__(self) -> str:
        return f"<LogLines [{len(self._kept)}]>"

    def __iter__(self) -> Iterator[LogLine]:
        """Iterates over the lines, the oldest first."""
        return iter([LogLine(*fields) for fields in tuple(self._kept)])

    def handle(self, record: logging.LogRecord) -> bool:
        """Keeps the record's text. Takes no lock: appending to a deque needs none."""
        if record.levelno >= logging.INFO:
            self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        try:
            # The handler that wrote the line has already made its text.
            text = record.__dict__.get("message") or record.getMessage()
        except Exception:  # noqa: BLE001  # as every handler does
            self.handleError(record)
            return
        if record.exc_info:
            text = f"{text}\n{record.exc_text or logging.Formatter().formatException(record.exc_info)}"
        self.add(record.created, record.levelno, record.name, text)

    def add(self, at: float, level: int, logger: str, text: str) -> None:
        """Keeps a line: see ``LogLine``."""
        self._kept.append((next(self._numbers), at, level, logger, text))

    def about(self, id: str, begun: float, ended: float) -> list[LogLine]:
        """Lists the lines with a request's id in a span of time, in seconds since 1970."""
        return [line for line in self if begun - 1 <= line.at <= ended + 1 and id in line.text]
