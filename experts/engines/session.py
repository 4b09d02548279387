"""The processes of a session, found in ``/proc``."""

import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

_TRACKER = b"multiprocessing.resource_tracker"
_COMPILES = b"compile_worker"
"""Argument of torch's Inductor, whose pool of processes comes and goes as there is something to compile."""


def session_members(session: int) -> Iterator[int]:
    """Yields the process ids of a session, without those that have ended and wait to be collected."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # "pid (name) state ppid pgrp session ...": the name may hold spaces and brackets
            state, _, _, of_session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(of_session) == session and state not in "ZX":
            yield int(entry.name)


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Sends a signal to each process that is still there."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def is_tracker(pid: int) -> bool:
    """Recognises Python's janitor: when the processes it works for have ended, it removes their shared memory
    and ends."""
    try:
        return _TRACKER in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


def computes(pid: int, server: int) -> bool:
    """Tells an engine's core and workers, which run the program that the ``server`` runs, from the compilers
    that they start (gcc, nvcc, ptxas, Inductor's workers)."""
    if pid == server:
        return True
    try:
        same = Path(f"/proc/{pid}/exe").samefile(f"/proc/{server}/exe")
        return same and _COMPILES not in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
