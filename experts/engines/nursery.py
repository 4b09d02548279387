"""Starts servers of vLLM as forks of a process that has imported it (``experts.inside_vllm.nursery``)."""

import asyncio
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from experts.engines.private_folder import private_folder

logger = logging.getLogger(__name__)
PARENT_DEATH_SIGNAL = "experts.inside_vllm.parent_death_signal"
SAFE_PATH = {"PYTHONSAFEPATH": "1"}
"""Our packages have generic names: nothing may be imported from a server's working folder."""
NO_THREADS = {"OPENBLAS_NUM_THREADS": "1"}
READ_LATE = frozenset(("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "VLLM_USE_V2_MODEL_RUNNER"))
"""Variables that vLLM reads when it needs them and not when it is imported: each server has its own."""
SOCKET = "nursery.sock"
LOG = "nursery.log"
_POLL_S = 0.05
_TRIES = 3
_Environment = frozenset[tuple[str, str]]
"""All variables of a nursery."""


class ForkedProcess:
    """A server that a nursery has forked. It is killed where the connection is closed."""

    def __init__(self, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.pid = pid
        self._reader = reader
        self._writer = writer

    async def wait(self) -> int:
        """Waits for the server's end and returns its exit code, as asyncio's ``Process`` does."""
        try:
            line = await self._reader.readline()
        except ConnectionError:
            line = b""
        finally:
            self.close()
        return int(line) if line else -signal.SIGKILL  # which its nursery's end has sent it

    def close(self) -> None:
        """Closes the connection, which ends a server that runs."""
        self._writer.close()

    def __repr__(self) -> str:
        return f"<ForkedProcess {self.pid}>"


@dataclass(frozen=True, slots=True)
class _Run:
    """One run of a nursery."""

    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """Connects, once the imports are done; None where the nursery has ended."""
        while self.alive:
            try:
                return await asyncio.open_unix_connection(str(self.folder / SOCKET))
            except (FileNotFoundError, ConnectionError):
                await asyncio.sleep(_POLL_S)
        return None

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Nurseries:
    """A nursery for each environment that servers import vLLM with, from the first such server on."""

    def __init__(self, module: str = "experts.inside_vllm.nursery") -> None:
        """Starts nothing. ``module`` is the nursery's. Servers get the environment that this process has now:
        what it changes later would have each of them wait for a nursery of its own."""
        self._module = module
        self._inherited: Mapping[str, str] = {**os.environ, **SAFE_PATH}
        self._runs: dict[_Environment, _Run] = {}
        self._unfit: set[_Environment] = set()
        """Environments in which the imports fail or start threads."""

    async def ready(self, environment: Mapping[str, str]) -> None:
        """Waits until servers can be forked with ``environment`` beside ours, or cannot ever be."""
        connection = await self._connected(self._of_nursery(environment))
        if connection is not None:
            connection[1].close()

    async def fork(
        self, command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path
    ) -> ForkedProcess | None:
        """Starts ``command``, which is ``python -m MODULE ARGUMENTS...``, in the working folder ``folder``,
        with its output in ``log``. None: the server has to be started in another way."""
        ours = {**self._inherited, **environment}
        late = {name: ours[name] for name in READ_LATE if name in ours}
        job = _job(command, late, folder, log)
        connection = await self._connected(self._of_nursery(environment))
        if connection is None:
            return None
        reader, writer = connection
        try:
            writer.write(job)
            line = await reader.readline()
        except ConnectionError:
            line = b""
        except BaseException:
            writer.close()
            raise
        if not line:
            writer.close()
            return None
        return ForkedProcess(int(line), reader, writer)

    def close(self) -> None:
        """Ends all nurseries, and with them the servers they have forked."""
        for run in self._runs.values():
            run.close()
        self._runs.clear()

    def _of_nursery(self, environment: Mapping[str, str]) -> _Environment:
        ours = {**self._inherited, **environment}
        return frozenset((name, value) for name, value in ours.items() if name not in READ_LATE)

    async def _connected(
        self, environment: _Environment
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """Connects to a nursery, which may end unused just then. None: it is unfit, or ends again and
        again."""
        for _ in range(_TRIES):
            if environment in self._unfit:
                return None
            run = self._running(environment)
            connection = await run.connect()
            if connection is not None:
                return connection
            if run.process.returncode != 0 and self._runs.get(environment) is run:
                logger.warning("vLLM is not imported ahead of starts: %s", _last_line(run.folder))
                self._unfit.add(environment)
        return None

    def _running(self, environment: _Environment) -> _Run:
        """Returns the nursery, started if need be."""
        run = self._runs.get(environment)
        if run is None or not run.alive:
            if run is not None:
                run.close()
            run = self._runs[environment] = _launched(self._module, dict(environment))
        return run

    def __repr__(self) -> str:
        running = sum(run.alive for run in self._runs.values())
        return f"<Nurseries [running: {running}, unfit: {len(self._unfit)}]>"


def titled(variables: Mapping[str, str]) -> dict[str, str]:
    """Returns an environment whose first variable nothing changes: where the first is changed, setproctitle
    finds no title to write over, and says nothing."""
    return {**SAFE_PATH, **variables, **SAFE_PATH}


def _job(command: Sequence[str], variables: Mapping[str, str], folder: Path, log: Path) -> bytes:
    _, _, module, *arguments = command
    where = {"folder": str(folder), "log": str(log.absolute())}
    job = {"module": module, "arguments": arguments, "variables": variables, **where}
    return json.dumps(job).encode() + b"\n"


def _launched(module: str, environment: Mapping[str, str]) -> _Run:
    """Starts a nursery. numpy starts no threads in it, unless the environment says how many."""
    folder = private_folder()
    own = {name: value for name, value in NO_THREADS.items() if name not in environment}
    command = [sys.executable, "-m", PARENT_DEATH_SIGNAL, str(os.getpid())]
    command += [sys.executable, "-m", module, SOCKET, *own]
    with (folder / LOG).open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,
            env=titled({**environment, **own, "TMPDIR": str(folder)}),
            start_new_session=True,
        )
    return _Run(process, folder)


def _last_line(folder: Path) -> str:
    return (folder / LOG).read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
