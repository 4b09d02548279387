"""Bounds what weights may fill of a memory file system: never all of it, nor more than there is memory.

A write without room is an error (ENOSPC), but a process that touches a mapped page without room is killed
(SIGBUS). vLLM's workers map queues of more than 100 MiB in /dev/shm and touch them as they need them, so
weights, which can do without, leave them room. And the file system may be larger than the memory behind it,
or than the limit of a cgroup: a write is not refused then, a process is killed.
"""

import os
from pathlib import Path

from experts.errors import MemoryUnknown
from experts.memory.machine_memory import Room, memory

SPARE_BYTES = 256 * 2**20
"""Bytes that weights leave free, or a twentieth of the file system where that is less."""


def room_in(folder: Path, root: Path = Path("/")) -> int:
    """Returns the bytes that weights may fill now of the file system of ``folder``. ``root``: as of
    ``memory``.

    Raises OSError."""
    left = _left_in(folder)
    try:
        return min(left, memory(root, pressed=True).bytes)
    except MemoryUnknown:
        return left


def shared_memory(folder: Path = Path("/dev/shm")) -> Room:
    """Returns what weights may fill of ``folder`` if there is memory for it. Raises MemoryUnknown."""
    try:
        return Room(_left_in(folder), str(folder))
    except OSError as error:
        raise MemoryUnknown(f"{folder}: {error.strerror}; give tiers.host in bytes") from error


def _left_in(folder: Path) -> int:
    found = os.statvfs(folder)
    spare = min(SPARE_BYTES, found.f_blocks * found.f_frsize // 20)
    return max(0, found.f_bavail * found.f_frsize - spare)
