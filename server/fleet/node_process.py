"""A node as a process that outlives whoever started it, and is found again by whoever comes next."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from server.fleet.cluster_file import ClusterFile
from server.fleet.machine_folder import began

_DETACHED = (
    "import contextlib, os, subprocess, sys\n"
    "with contextlib.suppress(PermissionError):"
    " os.setpriority(os.PRIO_PROCESS, 0, 0)\n"
    "log = open(sys.argv[1], 'ab', buffering=0);"
    "print(subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL, stdout=log, stderr=log,"
    " start_new_session=True).pid)"
)
"""Starts a process that is nobody's child once this one has ended, at once. Ray runs its workers with
a niceness of 15: a node has none where that may be taken back."""


@dataclass(frozen=True, slots=True)
class Started:
    """A process of a node. ``began``: its start as the system counts it, by which it is told from another
    one with its number."""

    pid: int
    began: str
    address: str
    url: str


class NodeProcess:
    """The node of one machine, remembered in ``folder``."""

    def __init__(self, file: ClusterFile, host: str, folder: Path) -> None:
        self._file = file
        self._host = host
        self._folder = folder
        self._mark = folder / "drained"
        folder.mkdir(parents=True, exist_ok=True)

    def __repr__(self) -> str:
        return f"<NodeProcess {self.running!r}>"

    @property
    def running(self) -> Started | None:
        """Returns the process that runs, whoever started it."""
        try:
            started = Started(**json.loads((self._folder / "node.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return started if began(started.pid) == started.began else None

    @property
    def drained(self) -> bool:
        """Returns whether an operator drained the node, which has ended since."""
        return self._mark.exists() and self.running is None

    def restore(self) -> None:
        """Lets a node that was drained be started again."""
        self._mark.unlink(missing_ok=True)

    def ensure(self, peers: Sequence[str]) -> Started | None:
        """Starts the process unless it runs or was drained: then there is none. ``peers``: nodes to begin
        with. Raises OSError."""
        running = self.running
        if running is not None or self.drained:
            return running
        port, node_port = self._ports()
        address, url = f"{self._host}:{node_port}", f"http://{self._host}:{port}"
        command = _command(self._file, self._host, port, address, peers, self._mark)
        environment = dict(os.environ)
        if self._file.state is not None:
            environment["COE_STATE"] = str(self._folder / "state")
        done = subprocess.run(
            [sys.executable, "-c", _DETACHED, str(self._folder / "node.log"), *command],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        pid = int(done.stdout)
        started = Started(pid, began(pid) or "", address, url)
        new = self._folder / "node.json.new"
        new.write_text(json.dumps(asdict(started)))
        new.replace(self._folder / "node.json")
        return started

    def address(self) -> str:
        """Returns where other nodes reach the node, or will."""
        running = self.running
        return f"{self._host}:{self._ports()[1]}" if running is None else running.address

    def _ports(self) -> tuple[int, int]:
        """Returns the ports for clients and for nodes: those that were taken before, while they are free."""
        file = self._folder / "ports.json"
        try:
            before = json.loads(file.read_text())
        except (OSError, ValueError):
            before = [0, 0]
        given = (self._file.port, self._file.node_port)
        port, node_port = (
            fixed or _free_port(self._host, last) for fixed, last in zip(given, before, strict=True)
        )
        file.write_text(json.dumps([port, node_port]))
        return port, node_port

    def end(self, patience_s: float) -> None:
        """Ends the process as SIGTERM does, and as SIGKILL does if it is still there after a while."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            running = self.running
            if running is None:
                return
            with contextlib.suppress(ProcessLookupError):
                os.kill(running.pid, number)
            until = time.monotonic() + patience_s
            while self.running is not None and time.monotonic() < until:
                time.sleep(0.05)


def _command(
    file: ClusterFile, host: str, port: int, address: str, peers: Sequence[str], mark: Path
) -> list[str]:
    others = ",".join(peer for peer in peers if peer != address)
    return [
        sys.executable, "-m", "server.cli", "serve", "--config", str(file.config),
        "--host", host, "--port", str(port), "--node", address, "--reached-at", address,
        "--peers", others, "--secret-file", str(file.secret_file), "--drained", str(mark), *file.options,
    ]  # fmt: skip


def _free_port(host: str, wanted: int) -> int:
    for port in (wanted, 0):
        with socket.socket() as taken, contextlib.suppress(OSError):
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind((host, port))
            return int(taken.getsockname()[1])
    raise OSError(f"{host} has no free port")
