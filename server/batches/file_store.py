"""The folder with the contents of files, and how many bytes it may hold."""

import fcntl
import os
import threading
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO

from server.config.settings import SettingsError
from server.errors import SpoolFull, UnknownFile


class Spool:
    """One file for each id. Thread-safe. Whoever writes into it takes the room first."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Raises SettingsError where it cannot be written, or another process uses it."""
        self.folder = folder
        self._max_bytes = max_bytes
        self._contents = folder / "contents"
        self._turn = threading.Lock()
        try:
            self._contents.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SettingsError(f"batches.folder: {folder} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise SettingsError(
                f"batches.folder: another gateway uses {folder}; end it, or name another folder"
            ) from error
        self._used = sum(entry.stat().st_size for entry in self._contents.iterdir())

    def __repr__(self) -> str:
        return f"<Spool {self.folder} [{self._used:,} of {self._max_bytes:,} bytes]>"

    @property
    def used_bytes(self) -> int:
        return self._used

    def path(self, id: str) -> Path:
        return self._contents / id

    def open(self, id: str) -> BinaryIO:
        """For reading. Raises UnknownFile."""
        try:
            return self.path(id).open("rb")
        except FileNotFoundError as error:
            raise UnknownFile(f"File {id} was deleted.", "file_id") from error

    def create(self, id: str) -> int:
        """A descriptor that appends to the file, which only this user may read."""
        return os.open(self.path(id), os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self, size: int) -> None:
        """Raises SpoolFull."""
        with self._turn:
            if self._used + size > self._max_bytes:
                raise SpoolFull(
                    f"The files take {self._used:,} of {self._max_bytes:,} bytes, and {size:,} more do "
                    "not fit: delete files that you do not need any more."
                )
            self._used += size

    def give_back(self, size: int) -> None:
        with self._turn:
            self._used -= size

    def append(self, descriptor: int, data: bytes) -> None:
        """All of ``data`` or nothing. For one thread at a time and file. Raises SpoolFull."""
        self.take(len(data))
        before = os.fstat(descriptor).st_size
        try:
            written = 0
            while written < len(data):
                written += os.write(descriptor, data[written:])
        except BaseException as error:
            os.ftruncate(descriptor, before)
            self.give_back(len(data))
            if isinstance(error, OSError):
                raise SpoolFull(f"A file cannot be written: {error.strerror}.") from error
            raise

    def remove(self, id: str) -> None:
        """Also one that is not there."""
        path = self.path(id)
        try:
            size = path.stat().st_size
            path.unlink()
        except FileNotFoundError:
            return
        self.give_back(size)

    def keep_only(self, ids: Collection[str]) -> None:
        """Removes what killed processes left behind."""
        for entry in [*self._contents.iterdir()]:
            if entry.name not in ids:
                self.remove(entry.name)

    def close(self) -> None:
        os.close(self._lock)
