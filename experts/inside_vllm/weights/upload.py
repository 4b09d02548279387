"""Copies an image from host memory to a device whose weights have addresses of their own (CUDA).

The host memory is registered with the driver (pinned), so that the copies run beside the engine's steps, on a
stream of their own, at the speed of the bus. Registering touches every page: it is done once for a file, and
undone when the file is deleted. On CPU tensors the same code copies in slices; CUDA is not verified.
"""

import os
import time
from pathlib import Path

import torch
from vllm.logger import init_logger

from experts.inside_vllm.weights.images import Image
from experts.inside_vllm.weights.slices import Clock, Pace, Slice

logger = init_logger(__name__)
_POLL_S = 1e-3


class Upload:
    """Copies one image. Call ``work`` until it returns True, then take ``image``."""

    def __init__(self, image: Image, device: torch.device, clock: Clock = time.perf_counter) -> None:
        """``image``: in host memory, which must stay until the end. Raises torch.OutOfMemoryError."""
        self._clock = clock
        self._pace = Pace()
        self._pairs = [(_beside(tensor, device), tensor) for tensor in image.data]
        self._done = 0
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._event: torch.cuda.Event | None = None

    def work(self, seconds: float) -> bool:
        """Copies until ``seconds`` are used, and returns True when all is on the device."""
        if self._stream is not None:
            return self._arrived(self._stream, seconds)
        slice_ = Slice(self._clock, seconds)
        while self._done < len(self._pairs):
            target, source = self._pairs[self._done]
            if not slice_.allows(self._pace.expects(source.nbytes)):
                return False
            began = self._clock()
            target.copy_(source)
            self._pace.took(source.nbytes, self._clock() - began)
            self._done += 1
        return True

    def image(self) -> Image:
        """Returns the image on the device."""
        return Image(tuple(target for target, _ in self._pairs))

    def close(self) -> None:
        """Waits for copies under way, whose memory may go next."""
        if self._event is not None:
            self._event.synchronize()

    def _arrived(self, stream: "torch.cuda.Stream", seconds: float) -> bool:
        """Queues all copies at once, which the device does beside the steps, and tells whether it has."""
        if self._event is None:
            stream.wait_stream(torch.cuda.current_stream(stream.device))  # whose memory may be reused
            with torch.cuda.stream(stream):
                for target, source in self._pairs:
                    target.copy_(source, non_blocking=True)
                self._event = stream.record_event()
        if not self._event.query():
            time.sleep(min(seconds, _POLL_S))
        return bool(self._event.query())


class PinnedFiles:
    """The mapped files that are registered with the CUDA driver, each until it is deleted."""

    def __init__(self) -> None:
        self._files: dict[tuple[int, int], tuple[int, torch.Tensor]] = {}

    def register(self, path: Path, memory: torch.Tensor) -> torch.Tensor:
        """Registers ``memory``, all bytes of ``path``, mapped and shared. Returns the registered mapping of
        that very file, which may be an earlier one; where the driver refuses, ``memory``, which copies
        slowly."""
        self.sweep()
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        found = os.fstat(descriptor)
        known = self._files.get((found.st_dev, found.st_ino))
        if known is not None:
            os.close(descriptor)
            return known[1]
        failed = torch.cuda.cudart().cudaHostRegister(memory.data_ptr(), memory.nbytes, 0)
        if int(failed) != 0:
            os.close(descriptor)
            logger.warning(
                "%s: the driver does not pin it (%s): raise the limit of locked memory", path, failed
            )
            return memory
        self._files[found.st_dev, found.st_ino] = (descriptor, memory)
        return memory

    def sweep(self) -> None:
        """Releases files that were deleted, which frees their memory."""
        for key, (descriptor, memory) in list(self._files.items()):
            if os.fstat(descriptor).st_nlink == 0:
                torch.cuda.cudart().cudaHostUnregister(memory.data_ptr())
                os.close(descriptor)
                del self._files[key]


def _beside(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Allocates on ``device`` what ``tensor`` is copied to."""
    return torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device=device)
