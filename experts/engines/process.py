"""An engine's processes: started in a session of their own, watched, and ended to the last one.

Linux only: it reads ``/proc``, and the gateway's death reaches the processes by PR_SET_PDEATHSIG.
"""

import asyncio
import os
import select
import shutil
import signal
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from experts.engines.first_cause import first_cause
from experts.engines.nursery import PARENT_DEATH_SIGNAL, Nurseries, titled
from experts.engines.private_folder import private_folder
from experts.engines.session import computes, is_tracker, send, session_members

_TRACKER_GRACE_S = 5.0
_READ_BYTES = 2**20
"""Bytes at the end of the log that are read for why the run ended."""


class Child(Protocol):
    """A process that was started, as asyncio has it."""

    @property
    def pid(self) -> int: ...

    async def wait(self) -> int:
        """Waits for its end and returns its exit code."""
        ...


class EngineProcess:
    """One run of an engine, made by ``launch``. Once ``ended`` returns nothing of it is left."""

    def __init__(self, process: Child, folder: Path, log: Path) -> None:
        self._process = process
        self._folder = folder
        self._log = log
        self._descriptors: list[int] = []
        self.pids: tuple[int, ...] = ()
        """The processes without which it does not answer; none while it starts."""
        self._ending = False
        self._reason = ""
        self._watch = asyncio.create_task(self._until_gone(), name=f"watch engine {process.pid}")

    @classmethod
    async def launch(
        cls,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        nurseries: Nurseries | None = None,
    ) -> "EngineProcess":
        """Runs ``command`` with ``{socket}`` in it replaced by the path of ``socket``, adding
        ``environment`` to ours and writing its output to ``log`` (the previous one stays beside it as
        ``.1``). ``nurseries``: the command is a module of vLLM that may be forked from one."""
        folder = private_folder()
        _rotate(log)
        parts = [part.replace("{socket}", str(_socket(folder))) for part in command]
        try:
            process: Child | None = None
            if nurseries is not None:
                process = await nurseries.fork(parts, environment, folder, log)
            if process is None:
                process = await _started(parts, environment, folder, log)
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
        """Whether all expected processes live, asked of the system at this moment."""
        ended = select.poll()
        for descriptor in self._descriptors:
            ended.register(descriptor)
        return not self._ending and not ended.poll(0)

    def log_tail(self, lines: int = 20) -> str:
        """Returns the last lines of the output so far."""
        try:
            with self._log.open(encoding="utf-8", errors="replace") as log:
                return "".join(deque(log, maxlen=lines)).rstrip()
        except FileNotFoundError:
            return ""

    def expect_all(self) -> None:
        """Has the run be over as soon as any of its present processes ends: vLLM's server outlives its engine
        core by many seconds, in which it takes requests that are never answered. Compilers, which end when
        they are done, are no such processes."""
        loop = asyncio.get_running_loop()
        for pid in self._members():
            if not computes(pid, self._process.pid):
                continue
            try:
                descriptor = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            self._descriptors.append(descriptor)
            self.pids += (pid,)
            loop.add_reader(descriptor, self._kill)

    async def ended(self) -> str:
        """Waits until the run is over, and returns how and why it ended: the first cause in the log, else its
        last lines."""
        await asyncio.shield(self._watch)
        return self._reason

    async def stop(self, grace_s: float = 10.0) -> None:
        """Ends all processes of the run: politely, by force after ``grace_s`` or if cancelled. Idempotent."""
        self._expect_none()
        send(self._members(), signal.SIGTERM)
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
        """Waits for the first process, and ends all others of the run."""
        code = await self._process.wait()
        self._expect_none()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _TRACKER_GRACE_S
        while members := self._members():  # engine core and workers: without their server they are of no use
            self._kill()
            if loop.time() > deadline:
                send(members, signal.SIGKILL)
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
        send([pid for pid in self._members() if not is_tracker(pid)], signal.SIGKILL)

    def __repr__(self) -> str:
        return f"<EngineProcess {self.pid} [running: {self.running}, folder: {self._folder}]>"


async def _started(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path
) -> asyncio.subprocess.Process:
    """Starts ``command`` as a process of its own."""
    with log.open("wb") as output:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", PARENT_DEATH_SIGNAL, str(os.getpid()), *command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,
            env=titled({**os.environ, "TMPDIR": str(folder), **environment}),
            start_new_session=True,
        )


def _end_of(log: Path) -> str:
    """Reads the end of a log, which holds all of a start that failed."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _READ_BYTES))
        return file.read().decode(errors="replace")


def _rotate(log: Path) -> None:
    """Moves the log of an earlier run aside."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists():
        log.replace(log.with_name(log.name + ".1"))


def _socket(folder: Path) -> Path:
    return folder / "engine.sock"


def _exit_words(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
