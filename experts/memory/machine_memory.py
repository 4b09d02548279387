"""Finds out what memory is free for us within the limits of the machine and of all our cgroups.

A container sees the whole machine's /proc/meminfo; what ends it is the limit of its cgroup, or of one above.
What a cgroup leaves is its limit minus what is in use there, of which file cache can be reclaimed. Shared
memory is in use like any other.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from experts.errors import MemoryUnknown


@dataclass(frozen=True, slots=True)
class Room:
    """Free bytes, and their source, for people."""

    bytes: int
    source: str


def memory(root: Path = Path("/"), *, pressed: bool = False) -> Room:
    """Returns the least that the machine and each of our cgroups leave. ``root``: where /proc and the mounts
    are. ``pressed``: count all file cache as free, rather than only what was not used of late.

    Raises MemoryUnknown."""
    return min([_machine(root), *_cgroups(root, pressed)], key=lambda room: room.bytes)


def check_free(size: int, root: Path = Path("/")) -> None:
    """Raises MemoryError where so much cannot be had: the kernel would kill a process for it. Passes where
    the machine does not tell."""
    try:
        room = memory(root, pressed=True)
    except MemoryUnknown:
        return
    if size > room.bytes:
        raise MemoryError(f"it needs {size:,} bytes, {room.bytes:,} are free ({room.source})")


def _machine(root: Path) -> Room:
    path = root / "proc/meminfo"
    try:
        available = _numbers(path.read_text(encoding="utf-8"))["MemAvailable"] * 1024
    except (OSError, KeyError) as error:
        raise MemoryUnknown(
            f"{path} does not say what is available ({error}); give tiers.device and tiers.host in bytes"
        ) from error
    return Room(available, "MemAvailable of /proc/meminfo")


@dataclass(frozen=True, slots=True)
class _Files:
    """The file names and fields of one version of cgroups."""

    limits: tuple[str, ...]
    usage: str
    idle: str
    """File cache that was not used of late."""
    busy: str
    """The other file cache."""


_V1 = _Files(("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file", "total_active_file")
_V2 = _Files(("memory.max", "memory.high"), "memory.current", "inactive_file", "active_file")


def _cgroups(root: Path, pressed: bool) -> Iterator[Room]:
    """Yields what every cgroup above us that limits memory leaves, in either version; both may be mounted."""
    ours = dict(_our_cgroups(root / "proc/self/cgroup"))
    for files, top, mount in _mounts(root / "proc/self/mountinfo"):
        if files in ours:
            for folder in _levels(PurePosixPath(ours[files]), PurePosixPath(top), PurePosixPath(mount)):
                yield from _left(files, root / folder.relative_to("/"), folder, pressed)


def _our_cgroups(path: Path) -> Iterator[tuple[_Files, str]]:
    """Reads our cgroups from lines such as ``4:memory:/a/b``, and in version 2 ``0::/a/b``."""
    for line in _lines(path):
        _, controllers, cgroup = line.split(":", 2)
        if controllers == "":
            yield _V2, cgroup
        elif "memory" in controllers.split(","):
            yield _V1, cgroup


def _mounts(path: Path) -> Iterator[tuple[_Files, str, str]]:
    """Yields the cgroup at the top of each mount, and the mount point (proc(5), mountinfo)."""
    for line in _lines(path):
        before, _, after = line.partition(" - ")
        _, _, _, top, mount, *_ = before.split()
        kind, _, options = after.split()
        if kind == "cgroup2":
            yield _V2, top, mount
        elif kind == "cgroup" and "memory" in options.split(","):
            yield _V1, top, mount


def _levels(cgroup: PurePosixPath, top: PurePosixPath, mount: PurePosixPath) -> Iterator[PurePosixPath]:
    """Yields the folders of ``cgroup`` and of all above it that are mounted; the top of one that is not."""
    inside = cgroup.relative_to(top) if cgroup.is_relative_to(top) and ".." not in cgroup.parts else None
    folder = mount / inside if inside is not None else mount
    yield folder
    yield from (parent for parent in folder.parents if parent.is_relative_to(mount))


def _left(files: _Files, folder: Path, shown: PurePosixPath, pressed: bool) -> Iterator[Room]:
    """Yields what the limit of one cgroup leaves; nothing where there is none. Version 2 has no files at its
    root, a container may hide some."""
    try:
        limits = [text for name in files.limits if (text := _text(folder / name)) not in ("", "max")]
        if limits:
            limit, usage = min(map(int, limits)), int(_text(folder / files.usage))
            cached = _numbers(_text(folder / "memory.stat"))
            used = usage - cached.get(files.idle, 0) - (cached.get(files.busy, 0) if pressed else 0)
            yield Room(max(0, limit - max(0, used)), f"the limit of {shown}")
    except ValueError:
        return


def _text(path: Path) -> str:
    """Returns the content of a file; empty where there is none."""
    return "\n".join(_lines(path))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def _numbers(text: str) -> Mapping[str, int]:
    """Reads the numbers of lines such as ``MemFree:  12 kB`` and ``inactive_file 12``."""
    words = (line.replace(":", " ").split() for line in text.splitlines())
    return {name: int(number) for name, number, *_ in words if number.isdigit()}
