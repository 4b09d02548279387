"""Copies an image from host memory to a device whose memory is another (CUDA).

All of the image is one block on the device, copied as it is in the file: one allocation, one copy for each
piece, one free. Pinned pieces are copied on a stream of their own, beside the engine's steps, at the speed of
the bus; memory that is not pinned in slices between them. On CPU tensors the same code copies in slices; CUDA
is not verified.
"""

import time
from collections.abc import Callable

import torch

from experts.inside_vllm.weights.images import Image
from experts.inside_vllm.weights.pinning import PinnedFile, pieces
from experts.inside_vllm.weights.slices import Clock, Pace, Slice

SLICE_BYTES = 16 * 2**20
"""Bytes that are copied at once from memory that is not pinned."""
_POLL_S = 1e-3


class Upload:
    """Copies one image. Call ``work`` until it returns True, then take ``image``."""

    def __init__(
        self,
        memory: torch.Tensor,
        image_of: Callable[[torch.Tensor], Image],
        device: torch.device,
        pinned: PinnedFile | None = None,
        clock: Clock = time.perf_counter,
    ) -> None:
        """``memory``: the bytes of the image's file; it must stay until the end. ``image_of``: finds the
        image in them or a copy of them. ``pinned``: the same memory, which is being registered. Raises
        torch.OutOfMemoryError."""
        self._clock = clock
        self._pace = Pace()
        self._source = memory
        self._image_of = image_of
        self._pinned = pinned
        self._block = torch.empty_like(memory, device=device)
        self._done = 0
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._event: torch.cuda.Event | None = None
        self._pieces = iter(pieces(memory.nbytes))
        self._piece = next(self._pieces, None)

    def work(self, seconds: float) -> bool:
        """Copies until ``seconds`` are used, and returns True when all is on the device."""
        if self._pinned is not None and not self._send_pinned(self._pinned):
            time.sleep(min(seconds, _POLL_S))
            return False
        slice_ = Slice(self._clock, seconds)
        while self._done < self._source.nbytes:
            end = min(self._source.nbytes, self._done + SLICE_BYTES)
            if not slice_.allows(self._pace.expects(end - self._done)):
                return False
            began = self._clock()
            self._block[self._done : end].copy_(self._source[self._done : end])
            self._pace.took(end - self._done, self._clock() - began)
            self._done = end
        if self._event is not None and not self._event.query():
            time.sleep(min(seconds, _POLL_S))
            return bool(self._event.query())
        return True

    def image(self) -> Image:
        """Returns the image on the device."""
        return self._image_of(self._block)

    def close(self) -> None:
        """Waits for copies under way, whose memory may go next."""
        if self._event is not None:
            self._event.synchronize()

    def _send_pinned(self, pinned: PinnedFile) -> bool:
        """Queues the pieces that are pinned by now, and returns True when no more will be."""
        while self._piece is not None and self._piece[1] <= pinned.registered:
            begin, end = self._piece
            self._send(begin, end)
            self._done = end
            self._piece = next(self._pieces, None)
        return self._piece is None or pinned.refused

    def _send(self, begin: int, end: int) -> None:
        target, source = self._block[begin:end], self._source[begin:end]
        if self._stream is None:
            target.copy_(source)
            return
        if self._event is None:  # the memory may be that of tensors which steps under way still read
            self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            target.copy_(source, non_blocking=True)
            self._event = self._stream.record_event()
