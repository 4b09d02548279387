"""Log lines of the gateway: one format, as text or as JSON, on standard error."""

import asyncio
import logging
import sys
import time
from datetime import UTC, datetime
from typing import Literal, TextIO

import orjson

from server.log_fields import fields_of


def configure(verbose: bool, form: Literal["text", "json"] = "text") -> None:
    """Sets up all logging. The command line calls it once."""
    handler = TurnHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else LineFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    # A line of the log does not say which thread, process or line of code wrote it, so that is not found out:
    # these are the optimisations that logging's documentation names.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = ""
    if not verbose:
        for name in ("httpx", "asyncio", "uvicorn.access", "huggingface_hub"):
            logging.getLogger(name).setLevel(logging.WARNING)


def is_verbose() -> bool:
    """Says whether all logging was set up so."""
    return logging.getLogger("httpx").level != logging.WARNING


class TurnHandler(logging.StreamHandler[TextIO]):
    """Writes in one piece what one turn of an event loop logs: a write for each of many requests takes longer
    than all else about its line. A warning or more, and what comes from elsewhere, is written when it comes,
    after what came before it; what is left when the process ends is written by ``logging`` itself.

    ``logging.handlers.QueueHandler`` with its listener's thread took 10.7 us of processor time for each line
    of a loaded event loop, where this takes 4.1 (three lines a turn, to a file, on one core).
    """

    _latest: logging.LogRecord

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lines: list[str] = []
        self._due: asyncio.AbstractEventLoop | None = None  # at whose next turn they are written

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.append(self.format(record))
        except Exception:  # noqa: BLE001  # as every handler does
            self.handleError(record)
            return
        self._latest = record
        loop = _running_loop()
        if loop is None or record.levelno >= logging.WARNING:
            self.flush()
        elif self._due is not loop:
            self._due = loop
            loop.call_soon(self.flush)

    def flush(self) -> None:
        self.acquire()
        try:
            lines, self._lines, self._due = self._lines, [], None
            if lines:
                self.stream.write("\n".join([*lines, ""]))
            super().flush()
        except Exception:  # noqa: BLE001  # as every handler does
            self.handleError(self._latest)
        finally:
            self.release()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    """None outside of one."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class LineFormatter(logging.Formatter):
    """Formats a line as its time, level, logger and message, and what is told of an error after it. The time
    is written once a second, and not for each line."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")
        self._second, self._written = -1, ""

    def format(self, record: logging.LogRecord) -> str:
        if record.exc_info or record.exc_text or record.stack_info:
            return super().format(record)
        record.message = record.getMessage()
        return f"{self.formatTime(record)} {record.levelname} {record.name} {record.message}"

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        second = int(record.created)
        if second != self._second:
            self._second, self._written = second, time.strftime("%H:%M:%S", time.localtime(second))
        return self._written


class JsonFormatter(logging.Formatter):
    """Formats a line as one JSON object: its time (UTC), level, logger and message, the fields that it came
    with, and the error that it tells of, if any."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        record.message = record.getMessage()
        line: dict[str, object] = {
            "time": f"{at.removesuffix('+00:00')}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.message,
        }
        line |= {name: value for name, value in fields_of(record).items() if value not in (None, "")}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()
