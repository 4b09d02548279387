"""A cgroup whose processes may have no more than so many bytes of memory: the kernel kills them beyond."""

import contextlib
import os
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path("/sys/fs/cgroup")
NEEDED = "no cgroup with a memory limit can be made"


@contextlib.contextmanager
def memory_limit(most: int, pids: Iterable[int]) -> Iterator[None]:
    """From now on what the processes take is charged to a cgroup of their own, below that of the tests, which
    may have ``most`` bytes. What they have already is not moved there. Skips a test where none can be
    made."""
    parent, setting = _own()
    group = parent / f"coe-test-{uuid.uuid4().hex[:8]}"
    try:
        group.mkdir()
        (group / setting).write_text(str(most))
    except OSError as error:
        with contextlib.suppress(OSError):
            group.rmdir()
        pytest.skip(f"{NEEDED}: {error}")
    try:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        for left in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                (parent / "cgroup.procs").write_text(left)
        group.rmdir()


def _own() -> tuple[Path, str]:
    """The cgroup of this process and the name of its limit: version 1's for memory, else version 2's."""
    places = dict(_hierarchies())
    if "memory" in places:
        return ROOT / "memory" / places["memory"], "memory.limit_in_bytes"
    return ROOT / places.get("", ""), "memory.max"


def _hierarchies() -> Iterator[tuple[str, str]]:
    for line in Path(f"/proc/{os.getpid()}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            yield controller, path.lstrip("/")
