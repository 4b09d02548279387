"""Best rates of this machine: direct reads of its disk, and copies in its memory."""

import mmap
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

BLOCK_BYTES = 16 * 2**20
_PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS


class NotMeasured(Exception):
    """This machine cannot do it; the message says why."""


def direct_read(files: list[Path]) -> float:
    """Returns the seconds ``dd`` takes to read the files one after another around the page cache. Raises
    NotMeasured."""
    began = time.perf_counter()
    for file in files:
        command = ["dd", f"if={file}", "of=/dev/null", f"bs={BLOCK_BYTES}", "iflag=direct"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise NotMeasured(f"dd: {error.strerror}") from error
        if done.returncode:
            raise NotMeasured(" ".join(done.stderr.split()))
    return time.perf_counter() - began


class Copies:
    """Copies of ``size`` bytes of memory, in seconds each, by one thread."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._source = np.ones(size, np.uint8)
        self._warm = np.zeros(size, np.uint8)

    def warm(self) -> float:
        """Copies into memory that was written before."""
        return self._copy(self._warm)

    def fresh(self) -> float:
        """Copies into memory the process has just been given, a page at a time as it is touched."""
        return self._copy(np.frombuffer(mmap.mmap(-1, self.size, flags=_PRIVATE), np.uint8))

    def shared(self, folder: Path) -> float:
        """Copies into a new file of ``folder``, which is in shared memory, by writes. Raises NotMeasured."""
        try:
            with tempfile.TemporaryFile(dir=folder, buffering=0) as target:
                began = time.perf_counter()
                for start in range(0, self.size, BLOCK_BYTES):
                    target.write(self._source[start : start + BLOCK_BYTES].data)
                return time.perf_counter() - began
        except OSError as error:
            raise NotMeasured(f"{folder}: {error.strerror}") from error

    def pinned(self) -> float:
        """Copies from pinned memory to the first GPU, by its own events. Raises NotMeasured."""
        import torch  # nothing else of this needs it

        if not torch.cuda.is_available():
            raise NotMeasured("torch finds no GPU")
        source = torch.ones(self.size, dtype=torch.uint8).pin_memory()
        target = torch.empty_like(source, device="cuda")
        target.copy_(source, non_blocking=True)
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        target.copy_(source, non_blocking=True)
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3

    def _copy(self, target: "np.ndarray[tuple[int], np.dtype[np.uint8]]") -> float:
        began = time.perf_counter()
        np.copyto(target, self._source)
        return time.perf_counter() - began
