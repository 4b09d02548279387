"""Measures the machine the simulator runs on, by timing a copy in memory and a read from disk."""

import os
import tempfile
import time

import numpy as np
from pydantic import ByteSize

from memory_tiers.errors import SimulationImpossible
from memory_tiers.simulator.profiles import THIS_MACHINE, Profile

SAMPLE = 256 * 2**20
"""Bytes that are copied and read."""
RUNS = 3


def measured(sample: int = SAMPLE) -> Profile:
    """Measures a profile in about a second, with ``sample`` bytes in the temporary folder. Raises
    SimulationImpossible."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    copying, reading = _copy_bytes_per_s(sample), _disk_bytes_per_s(sample)
    folder = tempfile.gettempdir()
    copied = f"measured: the best of {RUNS} copies of {sample >> 20} MiB in memory"
    return Profile(
        name=THIS_MACHINE,
        device=ByteSize(memory // 4),
        host=ByteSize(memory // 4),
        link_bytes_per_s=ByteSize(copying),
        disk_bytes_per_s=ByteSize(reading),
        memory_bytes_per_s=ByteSize(copying),
        sources={
            "device": "a quarter of the physical memory",
            "host": "a quarter of the physical memory",
            "link_bytes_per_s": f"{copied}; loading into an engine is slower, see coe bench switch",
            "disk_bytes_per_s": f"measured: {sample >> 20} MiB from {folder}, page cache dropped",
            "memory_bytes_per_s": f"{copied}: what reads weights for a token at best",
        },
    )


def _copy_bytes_per_s(sample: int) -> int:
    source = np.ones(sample, dtype=np.uint8)
    target = np.zeros_like(source)
    seconds = []
    for _ in range(RUNS):
        began = time.perf_counter()
        np.copyto(target, source)
        seconds.append(time.perf_counter() - began)
    return round(sample / min(seconds))


def _disk_bytes_per_s(sample: int) -> int:
    try:
        with tempfile.NamedTemporaryFile() as file:
            file.write(os.urandom(2**20) * (sample >> 20))
            file.flush()
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            file.seek(0)
            began = time.perf_counter()
            while file.read(2**24):
                pass
            return round(sample / (time.perf_counter() - began))
    except OSError as error:
        raise SimulationImpossible(f"the disk could not be measured: {error}; set TMPDIR") from error
