"""A process that imports vLLM once, and forks servers that then need not import it.

``python -m experts.inside_vllm.nursery SOCKET [VARIABLE...]`` listens on SOCKET once the imports are done. A
client sends a line of JSON (``Job``). It gets the server's process id in a line and, once the server has
ended, its exit code as ``subprocess`` counts it in another. A server whose connection is closed is killed.
The nursery ends when it has had no server for ``GRACE_S``, which gives its memory back.

A fork is sound here because there is one thread: no other can hold a lock, and OpenMP, whose threads do not
survive a fork, has computed nothing. Where the imports have started a thread, the nursery ends instead.
"""

import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from experts.inside_vllm.parent_death_signal import ENGINE_VARIABLE, set_parent_death_signal

IMPORTED: tuple[str, ...] = (
    "vllm.entrypoints.openai.api_server",
    "vllm.v1.engine.core",
    "vllm.v1.worker.cpu_worker",
)
"""Modules of the server, its core, and the worker in it."""
GRACE_S = 60.0
_LONGEST_JOB = 2**20


@dataclass(frozen=True, slots=True)
class Job:
    """A server to fork: ``python -m module arguments``, in ``folder``, with its output in ``log``, and with
    ``variables`` that only it has."""

    module: str
    arguments: list[str]
    variables: dict[str, str]
    folder: str
    log: str


class Nursery:
    """The servers that run, and the connections they were asked for on."""

    def __init__(self, path: Path, grace_s: float = GRACE_S) -> None:
        """Listens on ``path``."""
        self._path = path
        self._grace_s = grace_s
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._woken, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._servers: dict[int, socket.socket] = {}
        """The connection of each, by its process id."""
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def run(self) -> Job | None:
        """Forks servers until there have been none for a while. In a server it returns the server's job."""
        while ready := self._selector.select(None if self._servers else self._grace_s):
            for key, _ in ready:
                if key.fileobj is self._listener:
                    job = self._fork()
                    if job is not None:
                        return job
                elif key.fileobj is self._woken:
                    self._woken.recv(4096)
                    self._reap()
                else:
                    self._kill(key.data)
        self._path.unlink(missing_ok=True)
        return None

    def _fork(self) -> Job | None:
        connection, _ = self._listener.accept()
        connection.settimeout(5.0)
        try:
            with connection.makefile("rb") as lines:
                job = Job(**json.loads(lines.readline(_LONGEST_JOB)))
        except (OSError, ValueError, TypeError):  # the client left, or is none of ours
            connection.close()
            return None
        own = os.getpid()
        try:
            pid = os.fork()
        except OSError:  # the client sees no process id, and starts the server in another way
            connection.close()
            return None
        if pid == 0:
            self._leave()
            connection.close()
            set_parent_death_signal(own)
            return job
        self._servers[pid] = connection
        self._selector.register(connection, selectors.EVENT_READ, pid)
        with suppress(OSError):
            connection.sendall(b"%d\n" % pid)
        return None

    def _reap(self) -> None:
        """Tells the exit codes of servers that have ended."""
        while self._servers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            connection = self._servers.pop(pid, None)
            if connection is not None:
                with suppress(KeyError):
                    self._selector.unregister(connection)
                with suppress(OSError):
                    connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
                connection.close()

    def _kill(self, pid: int) -> None:
        """Kills a server whose connection was closed, unless it has just ended."""
        connection = self._servers.get(pid)
        if connection is not None:
            self._selector.unregister(connection)
            os.kill(pid, signal.SIGKILL)

    def _leave(self) -> None:
        """Leaves nothing of this process in a server."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        for connection in (self._listener, self._woken, self._waker, *self._servers.values()):
            connection.close()


def become(job: Job, own: Sequence[str], said: bytes) -> None:
    """Runs a server in this process, as if it had been started by itself: without the variables ``own``, and
    with a log that begins with what the imports ``said``, which tells what an installation lacks."""
    os.setsid()
    os.chdir(job.folder)
    for name in own:
        del os.environ[name]
    os.environ.update(job.variables)
    os.environ["TMPDIR"] = job.folder
    tempfile.tempdir = None
    os.environ[ENGINE_VARIABLE] = str(os.getpid())
    with open(job.log, "wb", buffering=0) as log:
        log.write(said)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    _set_title(job)
    sys.argv = [job.module, *job.arguments]
    sys.modules.pop(job.module, None)  # run as __main__, it would be there twice
    runpy.run_module(job.module, run_name="__main__", alter_sys=True)


def _set_title(job: Job) -> None:
    """Shows the server's command line where processes are listed."""
    import setproctitle

    setproctitle.setproctitle(" ".join([sys.executable, "-m", job.module, *job.arguments]))


def main(arguments: list[str]) -> None:
    """Runs the nursery on the socket ``arguments[0]``; the others name variables that are for it alone."""
    path, *own = arguments
    for module in IMPORTED:
        importlib.import_module(module)
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        sys.exit(f"the imports have started {threads - 1} threads, so nothing can be forked")
    gc.collect()
    gc.freeze()  # what servers do not write to, they share
    sys.stdout.flush()
    said = Path(os.readlink("/proc/self/fd/1")).read_bytes()
    job = Nursery(Path(path)).run()
    if job is not None:
        become(job, own, said)


if __name__ == "__main__":
    main(sys.argv[1:])
