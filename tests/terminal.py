"""A program in a terminal of its own, which is typed at and read."""

import os
import pty
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Terminal:
    """``shown``: all that it has shown so far."""

    master: int
    process: "subprocess.Popen[bytes]"
    shown: str = ""

    def until(self, wanted: str) -> None:
        """Reads until ``wanted`` is shown. Fails where the program ends before."""
        seen = len(self.shown)
        while wanted not in self.shown[seen:]:
            more = self._read()
            assert more, f"it ended before it showed {wanted!r}: {self.shown}"

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def ended(self) -> int:
        """Reads to the end, and returns the exit status."""
        while self._read():
            pass
        return self.process.wait()

    def _read(self) -> str:
        with suppress(OSError):  # what is at the end of a terminal whose program has ended
            more = os.read(self.master, 65536).decode(errors="replace")
            self.shown += more
            return more
        return ""


@contextmanager
def a_terminal(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    try:
        yield Terminal(master, process)
    finally:
        process.kill()
        process.wait()
        os.close(master)
