"""Folder with the contents of files, and its limit in bytes."""

import fcntl
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from server.access.shares import Holdings
from server.config.settings import SettingsError
from server.errors import SpoolFull, UnknownFile


class Spool:
    """Files by id, in a folder of limited size. Thread-safe. Writers reserve room first, and each owner has a
    share of it (``server.access.shares``)."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Opens the folder. Raises SettingsError where it cannot be written, or another process uses it."""
        self.folder = folder
        self._bytes = Holdings(max_bytes)
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
        self._owners: dict[str, str] = {}  # of each file

    def __repr__(self) -> str:
        return f"<Spool {self.folder} [{self._bytes.used:,} of {self._bytes.most:,} bytes]>"

    @property
    def used_bytes(self) -> int:
        return self._bytes.used

    def path(self, id: str) -> Path:
        return self._contents / id

    def open(self, id: str) -> BinaryIO:
        """Opens the file for reading. Raises UnknownFile."""
        try:
            return self.path(id).open("rb")
        except FileNotFoundError as error:
            raise UnknownFile(f"File {id} was deleted.", "file_id") from error

    def create(self, id: str, owner: str) -> int:
        """Creates the file, which only this user may read, and returns a descriptor that appends to it."""
        self._owners[id] = owner
        return os.open(self.path(id), os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self, id: str, size: int) -> None:
        """Reserves room for file ``id``. Raises SpoolFull."""
        owner = self._owners[id]
        with self._turn:
            if not self._bytes.take(owner, size):
                raise SpoolFull(
                    f"Your files take {self._bytes.of(owner):,} bytes, and all files {self._bytes.used:,} of "
                    f"{self._bytes.most:,}, some of which are left for other keys: {size:,} more do not fit. "
                    "Delete files that you do not need any more."
                )

    def give_back(self, id: str, size: int) -> None:
        with self._turn:
            self._bytes.add(self._owners[id], -size)

    def append(self, id: str, descriptor: int, data: bytes) -> None:
        """Appends all of ``data`` or nothing. For one thread at a time and file. Raises SpoolFull."""
        self.take(id, len(data))
        before = os.fstat(descriptor).st_size
        try:
            written = 0
            while written < len(data):
                written += os.write(descriptor, data[written:])
        except BaseException as error:
            os.ftruncate(descriptor, before)
            self.give_back(id, len(data))
            if isinstance(error, OSError):
                raise SpoolFull(f"A file cannot be written: {error.strerror}.") from error
            raise

    def remove(self, id: str) -> None:
        """Removes the file, if there is one."""
        path = self.path(id)
        try:
            size = path.stat().st_size
            path.unlink()
        except FileNotFoundError:
            return
        self.give_back(id, size)
        del self._owners[id]

    def keep_only(self, owners: Mapping[str, str]) -> None:
        """Counts the existing files, and removes those that killed processes left behind. ``owners``: of the
        files to keep, by id."""
        for entry in [*self._contents.iterdir()]:
            if entry.name in owners:
                self._owners[entry.name] = owner = owners[entry.name]
                self._bytes.add(owner, entry.stat().st_size)
            else:
                entry.unlink()

    def close(self) -> None:
        os.close(self._lock)
