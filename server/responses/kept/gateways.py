"""Tells which of the gateways that share a file of responses still run."""

import contextlib
import fcntl
import os
import uuid
from pathlib import Path

from server.storage.errors import DatabaseUnwritable


class Gateways:
    """Tells whether a gateway runs, by a lock on a file of its own that the system takes back when its
    process ends, however it ends. All of them are on one machine, as SQLite's log needs it.

    ``own``: the name of this one, which no other has or will have.
    """

    def __init__(self, folder: Path) -> None:
        """Lets the others know this gateway. Raises DatabaseUnwritable."""
        self._folder = folder
        self.own = uuid.uuid4().hex
        made = folder / f".{self.own}"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            os.replace(made, folder / self.own)  # a name that others look at is locked already
        except OSError as error:
            raise DatabaseUnwritable(f"{folder} cannot be written: {error.strerror}") from error

    def __repr__(self) -> str:
        return f"<Gateways in {self._folder} [{self.own}]>"

    def runs(self, name: str) -> bool:
        """Says whether gateway ``name`` runs. The file of one that has ended is removed."""
        if name == self.own:
            return True
        try:
            lock = os.open(self._folder / name, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            self._remove(name)
            return False
        finally:
            os.close(lock)

    def remove_ended(self) -> None:
        """Removes the files of gateways that were killed."""
        for file in self._folder.glob("[!.]*"):
            self.runs(file.name)

    def close(self) -> None:
        """Lets others know that this one has ended."""
        self._remove(self.own)
        os.close(self._lock)

    def _remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self._folder / name).unlink()
