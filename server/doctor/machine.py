"""Examines the machine: processor, memory, limits, disk and clock. Every function is told what it judges."""

import datetime
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from experts.errors import MemoryUnknown
from experts.memory.machine_memory import Room
from server.doctor.finding import Finding, error, ok, warning

LEAST_MEMORY, GOOD_MEMORY = 2 * 10**9, 6 * 10**9
"""Bytes: of one engine beside weights, and of the embedded composition (README)."""
LEAST_SHARED = 256 * 2**20
LEAST_FILES, GOOD_FILES = 1024, 8192
"""Open files: each connection has one, and up to 4,096 are taken (``server.limits.connections``)."""
LEAST_DISK, GOOD_DISK = 10**9, 10 * 10**9


def processor(cores: int | None) -> Finding:
    """``cores``: those that this process may use; None: not known."""
    if cores is None:
        return warning("processor", "how many cores there are is not known", "look with nproc")
    if cores < 2:
        return warning("processor", "1 core", "the gateway and an engine share it: two or more are better")
    return ok("processor", f"{cores} cores")


def main_memory(measure: Callable[[], Room]) -> Finding:
    try:
        room = measure()
    except MemoryUnknown as problem:
        return error("memory", str(problem), "mount /proc, or give every budget in bytes")
    said = f"{room.bytes / 1e9:.1f} GB are free ({room.source})"
    if room.bytes < LEAST_MEMORY:
        return error("memory", said, "an engine takes 2 GB beside its weights: free some, or raise the limit")
    if room.bytes < GOOD_MEMORY:
        return warning("memory", said, "the embedded composition takes 6 GB; serve smaller or fewer experts")
    return ok("memory", said)


def shared_memory_room(measure: Callable[[], Room]) -> Finding:
    do = "docker run --shm-size, or mount -o remount,size=... /dev/shm; or tiers.host: 0"
    try:
        room = measure()
    except MemoryUnknown as problem:
        return error("shared memory", str(problem), do)
    said = f"{room.source} takes {room.bytes / 1e9:.1f} GB of weights"
    if room.bytes < LEAST_SHARED:
        return warning("shared memory", said, do)
    return ok("shared memory", said)


def open_files(hard: int | None) -> Finding:
    """``hard``: the limit up to which the gateway raises its own; None: there is none."""
    said = "no limit" if hard is None else f"up to {hard:,}"
    do = "raise it: ulimit -Hn 65536, LimitNOFILE= of a unit, --ulimit nofile=65536 of a container"
    if hard is not None and hard < LEAST_FILES:
        return error("open files", said, do)
    if hard is not None and hard < GOOD_FILES:
        return warning("open files", said, f"fewer than 4,096 connections and their files: {do}")
    return ok("open files", said)


def disk(folder: Path) -> Finding:
    """Examines the disk of the state folder, which may not be there yet."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK):
        return error("disk", f"{folder} cannot be written", "give a state folder: state, or COE_STATE")
    free = shutil.disk_usage(there).free
    said = f"{free / 1e9:.1f} GB are free for {folder}"
    if free < LEAST_DISK:
        return error("disk", said, "make room, or put the state elsewhere: COE_STATE")
    if free < GOOD_DISK:
        return warning("disk", said, "the embedded experts take 2.7 GB, a model of 7 billion weights 15 GB")
    return ok("disk", said)


def clock(now: float, built: float) -> Finding:
    """``now``: seconds since 1970; ``built``: when this program was, which cannot be later."""
    said = datetime.datetime.fromtimestamp(now, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    if now < built:
        return error(
            "clock",
            f"{said} is before this program was made",
            "set it: certificates and days of usage need it",
        )
    return ok("clock", said)
