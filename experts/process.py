"""An engine's processes: started in a session of their own, watched, and reaped to the last one.

Linux only: it reads ``/proc``, and the gateway's death reaches the processes by PR_SET_PDEATHSIG.
"""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

_TETHER = "experts.inside_vllm.tether"
_SHARED_MEMORY = Path("/dev/shm")
_SHARED_MEMORY_PREFIXES = ("psm_", "sem.mp-", "torch_")
"""What Python's and torch's multiprocessing call their segments. An expert's weights may be mapped from the
same place and are not the engine's to remove."""


class EngineProcess:
    """One run of an engine, made by ``launch``. Once ``ended`` returns nothing of it is left."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path, log: Path) -> None:
        self._process = process
        self._folder = folder
        self._log = log
        self._segments: set[Path] = set()
        self._descriptors: list[int] = []
        self._reason = ""
        self._watch = asyncio.create_task(self._until_gone(), name=f"watch engine {process.pid}")

    @classmethod
    async def launch(
        cls, command: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> "EngineProcess":
        """Runs ``command`` with ``{socket}`` in it replaced by the path of ``socket``, adding
        ``environment`` to ours and writing its output to ``log`` (the previous one stays beside it as
        ``.1``)."""
        folder = Path(tempfile.mkdtemp(prefix="coe-", dir=_runtime_folder()))  # mode 0700
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
            loop.add_reader(descriptor, self._signal_session, signal.SIGKILL)

    async def ended(self) -> str:
        """Waits until the run is over and says how it ended, with the last lines of the log."""
        await asyncio.shield(self._watch)
        return self._reason

    async def stop(self, grace_s: float = 10.0) -> None:
        """Ends all processes of the run: politely, by force after ``grace_s`` or if cancelled. Idempotent."""
        self._note_segments()
        self._expect_none()
        self._signal_session(signal.SIGTERM)
        try:
            await asyncio.wait_for(asyncio.shield(self._watch), grace_s)
        except TimeoutError:
            self._signal_session(signal.SIGKILL)
            await asyncio.shield(self._watch)
        except asyncio.CancelledError:
            self._signal_session(signal.SIGKILL)
            raise

    def _expect_none(self) -> None:
        for descriptor in self._descriptors:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)
        self._descriptors.clear()

    async def _until_gone(self) -> None:
        code = await self._process.wait()
        self._expect_none()
        while self._members():  # engine core and workers: without their server they are of no use
            self._note_segments()
            self._signal_session(signal.SIGKILL)
            await asyncio.sleep(0.02)
        exit_words = _exit_words(code)
        self._reason = f"the engine's process {exit_words}; last lines of {self._log}:\n{self.log_tail()}"
        for segment in self._segments:
            segment.unlink(missing_ok=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _members(self) -> list[int]:
        return list(session_members(self._process.pid))

    def _signal_session(self, number: signal.Signals) -> None:
        for pid in self._members():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def _note_segments(self) -> None:
        for pid in self._members():
            self._segments.update(_segments_of(pid))

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


def _segments_of(pid: int) -> Iterator[Path]:
    try:
        maps = Path(f"/proc/{pid}/maps").read_text()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return
    for line in maps.splitlines():
        path = Path(line.partition(str(_SHARED_MEMORY) + "/")[2].removesuffix(" (deleted)"))
        if path.name.startswith(_SHARED_MEMORY_PREFIXES) and path.name == str(path):
            yield _SHARED_MEMORY / path


def _rotate(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists():
        log.replace(log.with_name(log.name + ".1"))


def _runtime_folder() -> Path:
    """Where sockets go: their paths may not be longer than 107 bytes."""
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR", "/tmp"))
    return runtime if len(str(runtime)) < 60 and os.access(runtime, os.W_OK) else Path("/tmp")


def _socket(folder: Path) -> Path:
    return folder / "engine.sock"


def _exit_words(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
