"""An engine's processes: started in a session of their own, watched, and reaped to the last one.

Linux only: it reads ``/proc``, and the gateway's death reaches the processes by PR_SET_PDEATHSIG.
"""

import asyncio
import os
import select
import shutil
import signal
import sys
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from experts.engines.first_cause import first_cause

_TETHER = "experts.inside_vllm.parent_death_signal"
_TRACKER = b"multiprocessing.resource_tracker"
"""Python's janitor: when the processes it works for have ended, it removes their shared memory and ends."""
_TRACKER_GRACE_S = 5.0
_READ_BYTES = 2**20
"""Of the log, for why the run ended."""


class EngineProcess:
    """One run of an engine, made by ``launch``. Once ``ended`` returns nothing of it is left."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path, log: Path) -> None:
        self._process = process
        self._folder = folder
        self._log = log
        self._descriptors: list[int] = []
        self._ending = False
        self._reason = ""
        self._watch = asyncio.create_task(self._until_gone(), name=f"watch engine {process.pid}")

    @classmethod
    async def launch(
        cls, command: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> "EngineProcess":
        """Runs ``command`` with ``{socket}`` in it replaced by the path of ``socket``, adding
        ``environment`` to ours and writing its output to ``log`` (the previous one stays beside it as
        ``.1``)."""
        folder = _private_folder()
        _rotate(log)
        tethered = [sys.executable, "-m", _TETHER, str(os.getpid()), *command]
        try:
            with log.open("wb") as output:
                process = await asyncio.create_subprocess_exec(
                    *(part.replace("{socket}", str(_socket(folder))) for part in tethered),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd=folder,
                    # Our packages have generic names: nothing may be imported from the working folder.
                    env={**os.environ, "PYTHONSAFEPATH": "1", "TMPDIR": str(folder), **environment},
                    start_new_session=True,
                )
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return cls(process, folder, log)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def socket(self) -> Path:
        return _socket(self._folder)

    @property
    def running(self) -> bool:
        return not self._watch.done()

    @property
    def intact(self) -> bool:
        """False from the moment an expected process has ended, whoever has noticed so far."""
        ended = select.poll()
        for descriptor in self._descriptors:
            ended.register(descriptor)
        return not self._ending and not ended.poll(0)

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of the output so far."""
        try:
            with self._log.open(encoding="utf-8", errors="replace") as log:
                return "".join(deque(log, maxlen=lines)).rstrip()
        except FileNotFoundError:
            return ""

    def expect_all(self) -> None:
        """From now on the run is over as soon as any of its present processes ends: vLLM's server outlives
        its engine core by many seconds, in which it takes requests that nobody will answer."""
        loop = asyncio.get_running_loop()
        for pid in self._members():
            try:
                descriptor = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            self._descriptors.append(descriptor)
            loop.add_reader(descriptor, self._kill)

    async def ended(self) -> str:
        """Waits until the run is over and says how it ended and why: the first cause that the log tells of,
        else its last lines."""
        await asyncio.shield(self._watch)
        return self._reason

    async def stop(self, grace_s: float = 10.0) -> None:
        """Ends all processes of the run: politely, by force after ``grace_s`` or if cancelled. Idempotent."""
        self._expect_none()
        _signal(self._members(), signal.SIGTERM)
        try:
            await asyncio.wait_for(asyncio.shield(self._watch), grace_s)
        except TimeoutError:
            self._kill()
            await asyncio.shield(self._watch)
        except asyncio.CancelledError:
            self._kill()
            raise

    def _expect_none(self) -> None:
        self._ending = True
        for descriptor in self._descriptors:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)
        self._descriptors.clear()

    async def _until_gone(self) -> None:
        code = await self._process.wait()
        self._expect_none()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _TRACKER_GRACE_S
        while members := self._members():  # engine core and workers: without their server they are of no use
            self._kill()
            if loop.time() > deadline:
                _signal(members, signal.SIGKILL)
            await asyncio.sleep(0.02)
        self._reason = f"the engine's process {_exit_words(code)}{self._cause(by_itself=code >= 0)}"
        shutil.rmtree(self._folder, ignore_errors=True)

    def _cause(self, *, by_itself: bool) -> str:
        cause = first_cause(_end_of(self._log), by_itself=by_itself)
        return (
            f": {cause}; more in {self._log}" if cause else f"; last lines of {self._log}:\n{self.log_tail()}"
        )

    def _members(self) -> list[int]:
        return list(session_members(self._process.pid))

    def _kill(self) -> None:
        _signal([pid for pid in self._members() if not _is_tracker(pid)], signal.SIGKILL)

    def __repr__(self) -> str:
        return f"<EngineProcess {self.pid} [running: {self.running}, folder: {self._folder}]>"


def session_members(session: int) -> Iterator[int]:
    """Process ids of a session, without those that have ended and wait to be collected."""
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


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _is_tracker(pid: int) -> bool:
    try:
        return _TRACKER in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


def _end_of(log: Path) -> str:
    """All that a start says, and of a run of many days what came last."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _READ_BYTES))
        return file.read().decode(errors="replace")


def _rotate(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists():
        log.replace(log.with_name(log.name + ".1"))


def _private_folder() -> Path:
    """Mode 0700, named after this process; those of gateways that were killed go."""
    runtime = _runtime_folder()
    for folder in runtime.glob("coe-*-*"):
        owner = folder.name.split("-")[1]
        if owner.isdigit() and not Path("/proc", owner).exists():
            shutil.rmtree(folder, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"coe-{os.getpid()}-", dir=runtime))


def _runtime_folder() -> Path:
    """Where sockets go: their paths may not be longer than 107 bytes."""
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR", "/tmp"))
    return runtime if len(str(runtime)) < 60 and os.access(runtime, os.W_OK) else Path("/tmp")


def _socket(folder: Path) -> Path:
    return folder / "engine.sock"


def _exit_words(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
