"""Registers mapped files with the CUDA driver (pins them), so that copies to the device run beside its work.

Registering touches every page. It is done once for a file, in pieces, in a thread, and undone when the file
is deleted. CUDA is not verified: tests run it with a driver that stands in for NVIDIA's.
"""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import torch
from vllm.logger import init_logger

logger = init_logger(__name__)

PIECE_BYTES = 256 * 2**20
_FOR_ALL_CONTEXTS = 1
"""``cudaHostRegisterPortable`` of the CUDA runtime."""


class Driver(Protocol):
    """The calls of the CUDA runtime that are made here; ``vllm.distributed``'s ``CudaRTLibrary`` has them.
    Each returns an error's number, 0 where all is well."""

    def cudaHostRegister(self, ptr: int, size: int, flags: int = 0) -> int: ...  # noqa: N802

    def cudaHostUnregister(self, ptr: int) -> int: ...  # noqa: N802

    def cudaGetLastError(self) -> int: ...  # noqa: N802


def cuda_driver() -> Driver:
    """Finds the CUDA runtime that torch has loaded."""
    from vllm.distributed.device_communicators.cuda_wrapper import CudaRTLibrary

    driver: Driver = CudaRTLibrary()
    return driver


class PinnedFile:
    """One mapped file. ``memory``: all its bytes; ``registered``: how many of them, from the beginning, are
    pinned; ``refused``: the driver pins no more."""

    def __init__(self, memory: torch.Tensor, descriptor: int, name: Path) -> None:
        self.memory = memory
        self.registered = 0
        self.refused = False
        self._descriptor = descriptor
        self._name = name
        self._pieces: list[int] = []
        self._given_up = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, driver: Callable[[], Driver], device: int | None) -> None:
        """Begins to register the file's memory, piece by piece. ``device``: the number of the CUDA device
        that the thread is for."""
        self._thread = threading.Thread(target=self._register, args=(driver, device), name="pin", daemon=True)
        self._thread.start()

    @property
    def deleted(self) -> bool:
        return os.fstat(self._descriptor).st_nlink == 0

    def wait(self) -> None:
        """Waits until nothing is registered any more."""
        if self._thread is not None:
            self._thread.join()

    def release(self, driver: Driver) -> None:
        """Undoes what was registered, which frees the memory of a deleted file."""
        self._given_up.set()
        self.wait()
        for address in self._pieces:
            driver.cudaHostUnregister(address)
        self._pieces.clear()
        os.close(self._descriptor)

    def _register(self, driver_of: Callable[[], Driver], device: int | None) -> None:
        if device is not None:
            torch.cuda.set_device(device)  # a new thread would make a context on the first one
        driver = driver_of()
        for begin, end in pieces(self.memory.nbytes):
            if self._given_up.is_set():
                return
            address = self.memory.data_ptr() + begin
            failed = driver.cudaHostRegister(address, end - begin, _FOR_ALL_CONTEXTS)
            if failed != 0:
                driver.cudaGetLastError()  # else the next kernel that is launched raises it
                logger.warning(
                    "%s: the driver does not pin it (error %d), copies of it are slow: raise the limit of "
                    "locked memory (ulimit -l)", self._name, failed,
                )  # fmt: skip
                self.refused = True
                return
            self._pieces.append(address)
            self.registered = end


class PinnedFiles:
    """The mapped files that are registered, each until it is deleted."""

    def __init__(self, driver: Callable[[], Driver] = cuda_driver, device: int | None = None) -> None:
        self._driver = driver
        self._device = device
        self._files: dict[tuple[int, int], PinnedFile] = {}

    def register(self, path: Path, memory: torch.Tensor) -> PinnedFile:
        """Begins to register ``memory``, all bytes of ``path``, mapped and shared. Returns the mapping of
        that very file that is registered, which may be an earlier one."""
        self.sweep()
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        found = os.fstat(descriptor)
        known = self._files.get((found.st_dev, found.st_ino))
        if known is not None:
            os.close(descriptor)
            return known
        file = self._files[found.st_dev, found.st_ino] = PinnedFile(memory, descriptor, path)
        file.begin(self._driver, self._device)
        return file

    def wait(self) -> None:
        """Waits until no file is being registered."""
        for file in self._files.values():
            file.wait()

    def sweep(self) -> None:
        """Releases files that were deleted."""
        for key, file in list(self._files.items()):
            if file.deleted:
                file.release(self._driver())
                del self._files[key]

    def __repr__(self) -> str:
        return f"<PinnedFiles {len(self._files)}>"


def pieces(size: int, of: int = PIECE_BYTES) -> Iterator[tuple[int, int]]:
    """Yields begin and end of each piece. A copy may not cross from one that is registered to another."""
    for begin in range(0, size, of):
        yield begin, min(size, begin + of)
