"""How much of a memory file system may be filled: never all of it.

A write without room is an error (ENOSPC), but whoever touches a mapped page without room is killed (SIGBUS).
vLLM's workers map queues of more than 100 MiB in /dev/shm and touch them as they need them, so weights, which
can do without, leave them room.
"""

import os
from pathlib import Path

SPARE_BYTES = 256 * 2**20
"""What weights leave free, or a twentieth of the file system where that is less."""


def room_in(folder: Path) -> int:
    """Bytes that weights may still fill of the file system that ``folder`` is on. Raises OSError."""
    found = os.statvfs(folder)
    spare = min(SPARE_BYTES, found.f_blocks * found.f_frsize // 20)
    return max(0, found.f_bavail * found.f_frsize - spare)
