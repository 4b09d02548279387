"""Keeps experts' weights in shared memory, as checkpoints or as images in their engine's format."""

import errno
import fcntl
import os
import secrets
import shutil
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from experts.engines.engine import Loaded
from experts.errors import LoadFailed
from experts.memory.machine_memory import Room
from experts.memory.shared_memory import room_in
from experts.spec import Expert
from memory_tiers.driver.arriving import Arriving
from memory_tiers.driver.pieces import NoPieces, Pieces
from memory_tiers.driver.staging import DISK, Disk, Reading, Staged, stage
from memory_tiers.errors import HostFull, HostUnavailable

FROM_DISK = NoPieces()
PREFIX = "coe-host-"
_ADVICE = "lower tiers.host or make the shared memory larger"


class HostStore:
    """Owns one private folder in shared memory, from ``open`` (or the first load) to ``close``.

    Opening removes what killed processes left: an owner locks its folder while it lives, so a leftover is
    known by its free lock, whatever the process number in its name says. Methods block: the driver calls
    them in threads. Loads and drops of different experts may run at the same time; those of one expert come
    one after another.
    """

    def __init__(self, root: Path = Path("/dev/shm"), disk: Disk = DISK) -> None:
        """``root``: a folder on a memory file system. ``disk``: what checkpoints are read with."""
        self._root = root
        self._disk = disk
        self.pieces: Pieces = FROM_DISK
        """Where pieces of checkpoints may come from instead."""
        self.arriving: dict[str, Arriving] = {}
        """Copies that are being read, by their experts. Other threads may look."""
        self._opened: Path | None = None
        self._lock = -1
        self._closing = threading.Event()
        self._idle = threading.Condition()
        self._working = 0

    def __repr__(self) -> str:
        return f"<HostStore {self._opened or 'not open'}>"

    def open(self) -> None:
        """Removes leftovers and makes the folder. Idempotent. Raises HostUnavailable."""
        with self._idle:
            if self._opened is not None:
                return
            if self._closing.is_set():  # by a start that was given up while a thread was to open it
                raise HostUnavailable("the host tier is closed")
            try:
                _remove_leftovers(self._root)
                self._opened, self._lock = _own_folder(self._root)
            except OSError as error:
                raise HostUnavailable(f"no host tier in {self._root}: {error}; make it writable") from error

    @property
    def folder(self) -> Path:
        """The private folder; the store must be open."""
        assert self._opened is not None, "open comes first"
        return self._opened

    def path(self, name: str) -> Path:
        """Names the folder where the copy of the expert ``name`` is, or would be."""
        return self.folder / f"expert-{quote(name, safe='')}"

    def images(self, name: str) -> Path:
        """Makes the folder where an engine may keep the image of the expert ``name``, in its own format."""
        with self._work():
            folder = self._images(name)
            folder.mkdir(mode=0o700, exist_ok=True)
            return folder

    def tidy(self, name: str, *, image: bool) -> None:
        """Removes, after a load, the copy of the checkpoint where there is an ``image`` now, and images that
        were not written to their end."""
        with self._work():
            if image and self.path(name).exists():
                shutil.rmtree(self.path(name))
            for partial in self._images(name).glob("*.partial"):
                partial.unlink(missing_ok=True)

    def load(self, expert: Expert, reading: Reading | None = None) -> Loaded:
        """Copies the expert's safetensors files and links to its other files. Raises HostFull where there is
        no room, and LoadFailed; leaves no half copy, also when ``close`` is called meanwhile or ``reading``
        is stopped."""
        started = time.perf_counter()
        with self._work():
            partial = self.folder / f"partial-{secrets.token_hex(8)}"
            coming = self.arriving[expert.name] = Arriving(partial)
            try:
                copied = self._copy(expert, coming, reading)
                partial.rename(self.path(expert.name))
            except OSError as error:
                message = f"copying {expert.folder} to {self.folder}: {error}"
                if error.errno in (errno.ENOSPC, errno.ENOMEM):
                    shutil.rmtree(partial, ignore_errors=True)
                    raise HostFull(f"{message}: {_ADVICE}", self._most()) from error
                raise LoadFailed(message) from error
            finally:
                del self.arriving[expert.name]
                shutil.rmtree(partial, ignore_errors=True)
        return Loaded(copied, time.perf_counter() - started)

    def drop(self, name: str) -> None:
        """Gives the expert's memory back. Unknown names are ignored. Raises LoadFailed once closed, and
        OSError."""
        with self._work():
            for path in (self.path(name), self._images(name)):
                if path.exists():
                    shutil.rmtree(path)

    def close(self) -> None:
        """Ends the loads under way and removes everything. Idempotent."""
        self._closing.set()
        with self._idle:
            self._idle.wait_for(lambda: self._working == 0)
            if self._opened is not None:
                shutil.rmtree(self._opened)
                os.close(self._lock)
                self._opened = None

    def _images(self, name: str) -> Path:
        return self.folder / f"images-{quote(name, safe='')}"

    @contextmanager
    def _work(self) -> Iterator[None]:
        """Counts work under way, for which ``close`` waits. Raises LoadFailed once closed."""
        with self._idle:
            if self._closing.is_set():
                raise LoadFailed("the host tier is closed")
            self.open()
            self._working += 1
        try:
            yield
        finally:
            with self._idle:
                self._working -= 1
                self._idle.notify_all()

    def room(self) -> Room:
        """Measures what the store's copies may take together, with those that are there. Raises
        HostUnavailable."""
        self.open()
        return Room(self._most(), str(self._root))

    def _most(self) -> int:
        """Adds what is free to what the store's files take; files may be leaving meanwhile."""
        held = 0
        for folder, _, names in os.walk(self.folder):
            for name in names:
                with suppress(FileNotFoundError):
                    found = os.lstat(os.path.join(folder, name))
                    held += found.st_size if stat.S_ISREG(found.st_mode) else 0
        return room_in(self.folder) + held

    def _copy(self, expert: Expert, coming: Arriving, reading: Reading | None) -> int:
        partial = coming.folder
        partial.mkdir(mode=0o700)
        files: list[Staged] = []
        for source in sorted(expert.folder.iterdir()):
            target = partial / source.name
            if source.suffix == ".safetensors":
                size, checksum = source.stat().st_size, expert.checksums.get(source.name)
                pieces = FROM_DISK if checksum is None else self.pieces
                opened = pieces.open(expert.name, source.name, size, checksum or "")
                files.append(Staged(source, target, size, checksum, opened, coming.noting(source.name)))
            else:
                target.symlink_to(source.absolute())
        size = sum(file.size for file in files)
        if size != expert.weights_bytes:  # a copy of a damaged file would be read again and again
            raise LoadFailed(
                f"the weights of expert {expert.name} have {size:,} bytes, not the {expert.weights_bytes:,} "
                "they had when they were prepared; run: coe experts prepare"
            )
        room = room_in(self.folder)
        if size > room:
            message = (
                f"expert {expert.name} needs {size:,} bytes in {self.folder}, which has room for {room:,}"
            )
            raise HostFull(f"{message}: {_ADVICE}", self._most())
        stage(files, self._closing.is_set, self._disk, reading)
        for file in files:
            dates = file.source.stat()  # engines know weights by their files' dates, and these are the same
            os.utime(file.target, ns=(dates.st_atime_ns, dates.st_mtime_ns))
        return size


def _own_folder(root: Path) -> tuple[Path, int]:
    """Makes a new locked folder. Another process may take it for a leftover before the lock is held: then
    another is made."""
    while True:
        folder = root / f"{PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
        folder.mkdir(mode=0o700)
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder, lock
        os.close(lock)


def _remove_leftovers(root: Path) -> None:
    for folder in root.glob(f"{PREFIX}*"):
        try:
            if folder.stat().st_uid == os.getuid():
                _remove_if_left(folder)
        except FileNotFoundError:
            continue


def _remove_if_left(folder: Path) -> None:
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)
    except BlockingIOError:
        return
    finally:
        os.close(lock)
