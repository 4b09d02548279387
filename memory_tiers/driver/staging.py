"""Copies files from disk into shared memory, in pieces by several threads, each checked as it lands.

A piece that is not in the page cache is read around it (O_DIRECT), so that a load drives nothing out of it,
into a buffer of one huge page: disks want large requests, and memory in small pages cuts them up. A piece
that is in the page cache is taken from there. Measured beside other ways in ``docs/benchmarks/switch.md``.
"""

import ctypes
import errno
import mmap
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from experts.checkpoints.hashing import PIECE_BYTES, checksum, digest
from experts.errors import LoadFailed
from memory_tiers.driver.page_cache import PageCache
from memory_tiers.driver.pieces import FilePieces, NoPieces

_FROM_DISK = NoPieces()


def _unsaid(number: int) -> None:
    """Is told a piece, and tells nobody."""


READERS = 4
HUGE_PAGE_BYTES = 2 * 2**20
BLOCK_BYTES = 4096
"""Direct reads begin at multiples of it: no disk we know has larger blocks."""


@dataclass(frozen=True, slots=True)
class Staged:
    """One file to copy. ``checksum``: as in ``experts.checkpoints.hashing``; None: the copy is not
    checked. ``pieces``: where they may come from instead of from disk. ``arrived`` is told the number of each
    that was written."""

    source: Path
    target: Path
    size: int
    checksum: str | None
    pieces: FilePieces = _FROM_DISK
    arrived: Callable[[int], None] = _unsaid


class Disk:
    """Opens and reads sources. Tests pass one that fails."""

    def open(self, path: Path, flags: int) -> int:
        return os.open(path, flags)

    def read(self, descriptor: int, buffer: memoryview, position: int) -> int:
        """Reads into ``buffer`` from ``position`` on and returns the bytes read; 0 at the end of the file."""
        return os.preadv(descriptor, [buffer], position)


DISK = Disk()


class Reading:
    """Shows how far a copy under way is, and stops it. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self.bytes = 0
        """Bytes that have arrived so far."""
        self.bytes_from_elsewhere = 0
        """As many of them did not come from disk."""

    def __repr__(self) -> str:
        return f"<Reading {self.bytes:,} bytes{' stopped' if self.stopped else ''}>"

    def arrived(self, size: int, *, from_disk: bool = True) -> None:
        """Counts ``size`` more bytes."""
        with self._lock:
            self.bytes += size
            self.bytes_from_elsewhere += 0 if from_disk else size

    def stop(self) -> None:
        """Lets the copy fail with the next piece, or after the last one."""
        self._stopped.set()

    @property
    def stopped(self) -> bool:
        """Whether the copy was told to stop."""
        return self._stopped.is_set()


def stage(
    files: Sequence[Staged], stopped: Callable[[], bool], disk: Disk, reading: Reading | None = None
) -> None:
    """Copies all ``files``; where it fails, the caller removes what was written.

    Raises LoadFailed naming the file that cannot be read, became shorter, or has another content than its
    checksum says, and as soon as ``stopped`` or ``reading`` is stopped; OSError when a target cannot be
    written.
    """
    reading = reading or Reading()
    with ExitStack() as opened, ThreadPoolExecutor(READERS, "host-load") as readers:
        buffers: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
        for buffer in _buffers(READERS):
            buffers.put(buffer)
        for file in files:
            opened.callback(file.pieces.close)
        copies = [_Copy(file, disk, opened) for file in files]

        def go_on() -> None:
            if stopped():
                raise LoadFailed("the host tier is closing")
            if reading.stopped:
                raise LoadFailed("it is not wanted any more")

        def move(piece: tuple[_Copy, int]) -> None:
            go_on()
            copy, number = piece
            buffer = buffers.get()
            try:
                copy.move(number, buffer, reading)
            finally:
                buffers.put(buffer)

        for _ in readers.map(move, _side_by_side(copies)):
            pass
        go_on()
        for copy in copies:
            copy.check()


class _Copy:
    """Copies one file. Pieces may be moved in any order, by several threads."""

    def __init__(self, file: Staged, disk: Disk, opened: ExitStack) -> None:
        self._file = file
        self._source = _Source(file, disk, opened)
        self._target = os.open(file.target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        opened.callback(os.close, self._target)
        self._writing = threading.Lock()  # the kernel writes one at a time, and spins where others wait
        self.pieces = -(-file.size // PIECE_BYTES)
        self._digests = [b""] * self.pieces

    def move(self, number: int, buffer: memoryview, reading: Reading) -> None:
        """Copies one piece."""
        start = number * PIECE_BYTES
        size = min(PIECE_BYTES, self._file.size - start)
        elsewhere = self._file.pieces.read(number, buffer[:size])
        if not elsewhere:
            began = time.perf_counter()
            self._source.read(buffer, start, size)
            self._file.pieces.from_disk(size, time.perf_counter() - began)
        with self._writing:
            _write(self._target, buffer[:size], start)
        if self._file.checksum is not None:
            self._digests[number] = self._digest(start, size)
        self._file.arrived(number)
        reading.arrived(size, from_disk=not elsewhere)

    def _digest(self, start: int, size: int) -> bytes:
        """Hashes what the target now holds, while the caches still have it."""
        with mmap.mmap(self._target, size, offset=start, access=mmap.ACCESS_READ) as written:
            return digest(written)

    def check(self) -> None:
        """Compares the checksum of all pieces. Raises LoadFailed."""
        found = checksum(self._digests)
        if self._file.checksum not in (None, found):
            raise LoadFailed(
                f"{self._file.source} is not the file that was prepared: its checksum is {found}, not "
                f"{self._file.checksum}; run: coe experts verify, and coe experts prepare to have it anew"
            )


class _Source:
    """Reads a file, around the page cache where that is possible and saves something."""

    def __init__(self, file: Staged, disk: Disk, opened: ExitStack) -> None:
        self._path, self._disk = file.source, disk
        try:
            self._buffered = self._open(opened, 0)
            self._direct = self._open_direct(opened)
            self._cached = PageCache(self._buffered)
        except OSError as error:
            raise self._unreadable(error) from error

    def read(self, buffer: memoryview, start: int, size: int) -> None:
        """Fills the first ``size`` bytes of ``buffer``, which is longer only where the file ends."""
        around = not self._cached.holds(start, size)
        done = 0
        while done < size:
            try:
                read = self._read(buffer[done:], start + done, around)
            except OSError as error:
                raise self._unreadable(error) from error
            if read == 0:
                raise LoadFailed(f"{self._path} became shorter while it was read; run: coe experts prepare")
            done += read

    def _read(self, buffer: memoryview, position: int, around: bool) -> int:
        if around and self._direct is not None and position % BLOCK_BYTES == 0:
            try:
                return self._disk.read(self._direct, buffer, position)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._direct = (
                    None  # opened, but not so read: the file system refuses it, or has larger blocks
                )
        return self._disk.read(self._buffered, buffer, position)

    def _open(self, opened: ExitStack, flags: int) -> int:
        descriptor = self._disk.open(self._path, os.O_RDONLY | os.O_CLOEXEC | flags)
        opened.callback(os.close, descriptor)
        return descriptor

    def _open_direct(self, opened: ExitStack) -> int | None:
        try:
            return self._open(opened, os.O_DIRECT)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return None  # a file system without it

    def _unreadable(self, error: OSError) -> LoadFailed:
        return LoadFailed(f"{self._path}: cannot be read: {error.strerror}")


def _side_by_side(copies: Sequence[_Copy]) -> Iterator[tuple[_Copy, int]]:
    """Yields the first pieces of all files, then the second ones: different files are written at once."""
    for number in range(max((copy.pieces for copy in copies), default=0)):
        yield from ((copy, number) for copy in copies if number < copy.pieces)


def _buffers(count: int) -> Iterator[memoryview]:
    """Yields buffers of one piece each, in huge pages where the system gives them."""
    size = max(PIECE_BYTES, HUGE_PAGE_BYTES)
    memory = mmap.mmap(-1, (count + 1) * size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    first = -ctypes.addressof(ctypes.c_char.from_buffer(memory)) % HUGE_PAGE_BYTES
    for start in range(first, first + count * size, size):
        yield memoryview(memory)[start : start + PIECE_BYTES]


def _write(target: int, data: memoryview, position: int) -> None:
    while data:
        written = os.pwrite(target, data, position)
        data, position = data[written:], position + written
