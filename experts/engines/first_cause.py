"""Finds the first cause of the end of vLLM's processes in their log; what follows it is its consequence.

vLLM's processes write into one log. A line of its loggers begins with its process; what Python itself prints
of an uncaught exception does not. Where the core fails, its server fails last and least clearly.
"""

import re
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

_LINE = re.compile(
    r"(?:\((?P<process>\w+ pid=\d+)\) )?"
    r"(?:(?:DEBUG|INFO|WARNING|ERROR|CRITICAL) [\d-]+ [\d:]+ \[[^\]]+\] ?)?(?P<text>.*)"
)
_GIVEN_UP = re.compile(r"\w+ (failed to start|encountered a fatal error)\.$")
_NO_KERNELS = re.compile(r"Failed to import from vllm\S*: ")
_HARMLESS = "dynamic module does not define module export function"
"""vLLM on CPUs without AVX-512: its kernels are loaded nevertheless (``vllm/platforms/cpu.py``)."""
_CRASH = "Fatal Python error: "
_USAGE = re.compile(r"\S+: error: .")
_TRACEBACK = "Traceback (most recent call last):"
_CHAINED = ("The above exception was the direct cause", "During handling of the above exception")
_CORE_FAILED = "Engine core initialization failed. See root cause above."
_CORE_KILLED = re.compile(r"Failed core proc\(s\): \{'(\w+)': -(\d+)\}")
_LONGEST = 500
"""Most characters of an exception's message: pydantic's end with all the arguments."""


@dataclass(frozen=True, slots=True)
class _Line:
    process: str | None
    text: str


def first_cause(log: str, *, by_itself: bool) -> str:
    """Returns the cause; empty where the log does not tell. ``by_itself``: the process was not killed by a
    signal, so that the last uncaught exception is what ended it."""
    lines = [_parsed(line) for line in log.splitlines()]
    causes = [*_kernels(lines), *_crash(lines)]
    failed = _given_up(lines)
    if not failed and by_itself:
        failed = _usage(lines) or _uncaught(lines)
    return "; then ".join([*causes, *failed])


def _parsed(line: str) -> _Line:
    match = _LINE.fullmatch(line)
    return _Line(match["process"], match["text"]) if match else _Line(None, line)


def _kernels(lines: Sequence[_Line]) -> list[str]:
    for line in lines:
        if _NO_KERNELS.match(line.text) and _HARMLESS not in line.text:
            return [f"{line.text[:_LONGEST]} (scripts/install says which package is missing)"]
    return []


def _crash(lines: Sequence[_Line]) -> list[str]:
    return [line.text for line in lines if line.text.startswith(_CRASH)][:1]


def _given_up(lines: Sequence[_Line]) -> list[str]:
    """Finds the exception that a core or a worker reports as its end; of several processes' the first."""
    for number, line in enumerate(lines):
        if line.process is not None and _GIVEN_UP.fullmatch(line.text):
            own = [other.text for other in lines[number:] if other.process == line.process]
            return next(_chains(own), [line.text])
    return []


def _usage(lines: Sequence[_Line]) -> list[str]:
    """Finds the error of argparse in the last line."""
    return [line.text[:_LONGEST] for line in lines[-1:] if _USAGE.match(line.text)]


def _uncaught(lines: Sequence[_Line]) -> list[str]:
    """Finds the last exception that Python itself printed."""
    printed = [line.text for line in lines if line.process is None]
    *_, last = [[], *_chains(printed)]
    if last and _CORE_FAILED in last[-1]:
        killed = _CORE_KILLED.search(last[-1])
        if killed is None:
            return ["its engine core ended without a word"]
        name = signal.Signals(int(killed[2])).name
        memory = ", as the kernel does when memory runs out" if name == "SIGKILL" else ""
        return [f"its {killed[1]} was killed by {name}{memory}"]
    return last


def _chains(texts: Sequence[str]) -> Iterator[list[str]]:
    """Yields, for each traceback, the exception at its end after those that it came from."""
    begins = [number for number, text in enumerate(texts) if text.startswith(_TRACEBACK)]
    chain: list[str] = []
    for begin, following in zip(begins, [*begins, len(texts)][1:], strict=True):
        end = next(
            (at for at in range(begin + 1, following) if texts[at].strip() and not _indented(texts[at])), None
        )
        if end is None:
            continue  # cut off
        more = takewhile(lambda text: text.strip() and _indented(text), texts[end + 1 : following])
        chain.append(" ".join([texts[end], *(text.strip() for text in more)])[:_LONGEST])
        if not any(text.startswith(_CHAINED) for text in texts[end:following]):
            yield chain
            chain = []


def _indented(text: str) -> bool:
    return text.startswith((" ", "\t"))
