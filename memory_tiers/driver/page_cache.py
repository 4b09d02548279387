"""Asks the kernel which part of a file its page cache holds, and to drop it."""

import ctypes
import mmap
import os
from pathlib import Path

import numpy as np

_LIBC = ctypes.CDLL(None)


class PageCache:
    """Reads the state of one open file (mincore). For another user's file the kernel does not tell and says
    that all of it is cached; a file that cannot be mapped counts as not cached."""

    def __init__(self, descriptor: int) -> None:
        try:
            self._map = np.frombuffer(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ), np.uint8)
        except (OSError, ValueError):  # a file system without mapped files; an empty file
            self._map = np.empty(0, np.uint8)

    def holds(self, start: int, size: int) -> bool:
        """Whether all of these bytes are cached. ``start`` is where a page starts."""
        return start + size <= len(self._map) and self._pages(start, size) == -(-size // mmap.PAGESIZE)

    def bytes(self) -> int:
        """Counts the cached bytes of the file, in whole pages."""
        return self._pages(0, len(self._map)) * mmap.PAGESIZE if len(self._map) else 0

    def _pages(self, start: int, size: int) -> int:
        resident = np.zeros(-(-size // mmap.PAGESIZE), np.uint8)
        _LIBC.mincore(ctypes.c_void_p(self._map.ctypes.data + start), ctypes.c_size_t(size), resident.ctypes)
        return int(np.count_nonzero(resident & 1))


def forget(path: Path) -> int:
    """Drops the file from the page cache, so that the next read comes from the disk. Returns the bytes that
    the kernel kept because some process has mapped them."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        return PageCache(descriptor).bytes()
    finally:
        os.close(descriptor)
