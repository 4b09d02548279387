"""Files that are pinned, with a driver that stands in for NVIDIA's and may refuse."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from experts.inside_vllm.weights.images import Image

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # vLLM's imports
    from experts.inside_vllm.weights import pinning
    from experts.inside_vllm.weights.image_reader import ImageReader
    from experts.inside_vllm.weights.image_writer import ImageWriter
    from experts.inside_vllm.weights.pinning import PinnedFile, PinnedFiles
    from experts.inside_vllm.weights.upload import Upload

PIECE = 4096


@dataclass
class FakeDriver:
    """Registers at most ``most`` bytes; as CUDA's, it keeps an error until it is asked for."""

    most: int = 2**60
    registered: dict[int, int] = field(default_factory=dict)
    pending: int = 0

    def cudaHostRegister(self, ptr: int, size: int, flags: int = 0) -> int:  # noqa: N802
        assert flags == 1, "pinned for one context alone"
        if sum(self.registered.values()) + size > self.most:
            self.pending = 2
            return 2
        self.registered[ptr] = size
        return 0

    def cudaHostUnregister(self, ptr: int) -> int:  # noqa: N802
        del self.registered[ptr]
        return 0

    def cudaGetLastError(self) -> int:  # noqa: N802
        error, self.pending = self.pending, 0
        return error

    def copies(self, source: torch.Tensor) -> bool:
        """Whether one copy may read it beside the device's work: it lies in one registered piece."""
        begin, end = source.data_ptr(), source.data_ptr() + source.nbytes
        return any(start <= begin and end <= start + size for start, size in self.registered.items())


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pinning.pieces
    by_piece: Callable[..., object] = lambda size: whole(size, PIECE)  # noqa: E731
    monkeypatch.setattr(pinning, "pieces", by_piece)
    monkeypatch.setattr("experts.inside_vllm.weights.upload.pieces", by_piece)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    writer = ImageWriter(tmp_path / "image-0", "key", Image((torch.randn(50, 50), torch.randn(70, 20))))
    while not writer.work(1.0):
        pass
    writer.close()
    return tmp_path / "image-0"


def mapped(file: Path) -> ImageReader:
    return ImageReader(file, "key", beside=True)


def uploaded(reader: ImageReader, pinned: PinnedFile) -> Upload:
    upload = Upload(pinned.memory, reader.image, torch.device("cpu"), pinned)
    while not upload.work(1.0):
        pass
    upload.close()
    return upload


def test_a_file_is_pinned_once_in_pieces_and_let_go_of_when_it_is_deleted(file: Path) -> None:
    driver = FakeDriver()
    files = PinnedFiles(lambda: driver)
    first = files.register(file, mapped(file).memory)
    assert files.register(file, mapped(file).memory) is first
    first.wait()
    size = first.memory.nbytes
    assert sorted(driver.registered.values(), reverse=True) == [PIECE] * (size // PIECE) + [size % PIECE]
    file.unlink()
    files.sweep()
    assert driver.registered == {}


def test_no_copy_crosses_two_pieces(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver, sent = FakeDriver(), Upload._send
    pinned = PinnedFiles(lambda: driver).register(file, mapped(file).memory)
    copied: list[tuple[int, int]] = []

    def watched(upload: Upload, begin: int, end: int) -> None:
        assert driver.copies(upload._source[begin:end]), (begin, end)
        copied.append((begin, end))
        sent(upload, begin, end)

    monkeypatch.setattr(Upload, "_send", watched)
    reader = mapped(file)
    found = uploaded(reader, pinned).image()
    assert len(copied) == -(-pinned.memory.nbytes // PIECE)
    assert all(torch.equal(one, other) for one, other in zip(found.data, reader.image().data, strict=True))


@pytest.mark.parametrize("most", [0, 2 * PIECE])
def test_a_driver_that_refuses_leaves_no_error_and_the_rest_is_copied_in_slices(
    file: Path, most: int
) -> None:
    driver = FakeDriver(most)
    reader = mapped(file)
    pinned = PinnedFiles(lambda: driver).register(file, reader.memory)
    found = uploaded(reader, pinned).image()
    assert (pinned.registered, pinned.refused, driver.pending) == (most, True, 0)
    again = mapped(file).image()
    assert all(torch.equal(one, other) for one, other in zip(found.data, again.data, strict=True))
