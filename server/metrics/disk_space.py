"""Free space on the disks of what is kept."""

import os
from collections.abc import Mapping
from pathlib import Path


def free_shares(folders: Mapping[str, Path]) -> dict[str, float]:
    """Returns the free share, from 0 to 1, of each folder's disk as an unprivileged user may fill it. Leaves
    out a folder whose disk does not answer; one that is not there yet counts as its nearest parent."""
    shares = {}
    for name, folder in folders.items():
        there = next(each for each in (folder, *folder.parents) if each.exists())
        try:
            disk = os.statvfs(there)
        except OSError:
            continue
        if disk.f_blocks:
            shares[name] = disk.f_bavail / (disk.f_blocks - disk.f_bfree + disk.f_bavail)
    return shares
