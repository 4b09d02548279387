"""Brings one expert to the device: from its image file if that is good, else from its checkpoint.

1. A good image file has the right key and checksums. On CPU its memory becomes the expert's: nothing is
   copied. On CUDA it is copied to the device beside computing (``upload``).
2. Otherwise the checkpoint is read and converted (``loading``), then written to the file, where an image may
   be kept. On CPU the expert's weights are the file's memory from then on: they are not held twice.

Where the file cannot be written or mapped (no room, no memory, memory out of reach), the expert arrives
without it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from vllm.logger import init_logger

from experts.inside_vllm.weights.image_format import ImageUnfit
from experts.inside_vllm.weights.image_reader import ImageReader
from experts.inside_vllm.weights.image_writer import ImageWriter
from experts.inside_vllm.weights.images import Image
from experts.inside_vllm.weights.loading import Loading
from experts.inside_vllm.weights.pinning import PinnedFiles
from experts.inside_vllm.weights.slices import Clock
from experts.inside_vllm.weights.upload import Upload

logger = init_logger(__name__)
_Stage = ImageReader | ImageWriter | Loading | Upload
_NO_IMAGE = (ImageUnfit, OSError, MemoryError, RuntimeError)
"""torch says by RuntimeError that memory has run out."""


@dataclass(frozen=True, slots=True)
class Place:
    """The file of an expert's image; ``key`` names the weights and versions it is made of."""

    file: Path
    key: str


class Arrival:
    """Call ``work`` until it returns True, then take ``image``; ``close`` in any case."""

    def __init__(
        self,
        name: str,
        load: Callable[[], Loading],
        place: Place | None,
        device: torch.device | None,
        pinned: PinnedFiles,
        clock: Clock = time.perf_counter,
    ) -> None:
        """``load`` begins to read the checkpoint; it is called at once, or when the image proves damaged.
        ``place``: None means that no image may be kept. ``device``: where an image is copied to; None means
        that it is used where it is mapped."""
        self.name = name
        self._load = load
        self._place = place
        self._device = device
        self._pinned = pinned
        self._clock = clock
        self._image: Image | None = None
        self.converted = False
        """Whether the checkpoint was converted, rather than an image found good by its checksums."""
        self._stage: _Stage | None = self._first()

    def work(self, seconds: float) -> bool:
        """Works until ``seconds`` are used, as far as can be foreseen, and returns True when the expert is
        whole. Raises what reading the checkpoint raises."""
        end = self._clock() + seconds
        while self._stage is not None:
            if not self._works(self._stage, max(0.0, end - self._clock())):
                return False
        return True

    def image(self) -> Image:
        """Returns the whole expert."""
        assert self._image is not None, "work comes first"
        return self._image

    def close(self) -> None:
        """Frees all but what ``image`` gave. Idempotent."""
        if self._stage is not None:
            self._stage.close()
            self._stage = None

    def _first(self) -> _Stage:
        if self._place is None:
            return self._load()
        try:
            return ImageReader(self._place.file, self._place.key, self._device is not None, self._clock)
        except ImageUnfit:
            return self._load()

    def _works(self, stage: _Stage, seconds: float) -> bool:
        try:
            if not stage.work(seconds):
                return False
        except _NO_IMAGE as error:
            following = self._without(stage, error)
        else:
            following = self._after(stage)
        if following is not stage:
            stage.close()
        self._stage = following
        return True

    def _without(self, stage: _Stage, error: Exception) -> _Stage | None:
        """Returns the stage that follows a ``stage`` that has failed. Raises ``error`` where none does."""
        if isinstance(stage, ImageReader):
            logger.warning("expert %s: %s; reading its checkpoint instead", self.name, error)
            return self._load()
        if isinstance(stage, ImageWriter):
            logger.warning("expert %s: its image is not kept: %s", self.name, error)
            return None
        raise error

    def _after(self, stage: _Stage) -> _Stage | None:
        """Returns the stage that follows a ``stage`` that is done."""
        match stage:
            case ImageReader():
                return self._mapped(stage)
            case Loading():
                self._image, self.converted = stage.image(), True
                return self._writer(self._image)
            case ImageWriter() if self._device is None:
                self._image = self._written()
            case Upload():
                self._image = stage.image()
        return None

    def _mapped(self, reader: ImageReader) -> _Stage | None:
        if self._device is None:
            self._image = reader.image()
            return None
        assert self._place is not None
        if self._device.type != "cuda":
            return Upload(reader.memory, reader.image, self._device, clock=self._clock)
        pinned = self._pinned.register(self._place.file, reader.memory)
        return Upload(pinned.memory, reader.image, self._device, pinned, self._clock)

    def _written(self) -> Image:
        """Returns the image as mapped from its file, so that the converted one can be freed."""
        assert self._place is not None
        try:
            return ImageReader(self._place.file, self._place.key).image()
        except _NO_IMAGE as error:
            logger.warning("expert %s: its image is held twice, it cannot be mapped: %s", self.name, error)
            return self.image()

    def _writer(self, image: Image) -> _Stage | None:
        if self._place is None:
            return None
        try:
            return ImageWriter(self._place.file, self._place.key, image, self._clock)
        except _NO_IMAGE as error:
            logger.warning("expert %s: its image cannot be kept: %s", self.name, error)
            return None

    def __repr__(self) -> str:
        return f"<Arrival {self.name} [{type(self._stage).__name__}]>"
