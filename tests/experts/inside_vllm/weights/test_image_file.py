"""Images of a small model on their way to a file and back."""

import warnings
from pathlib import Path

import pytest
import torch

from experts.inside_vllm.weights.images import Image

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # vLLM's imports
    from experts.inside_vllm.kernels.linear import Packed
    from experts.inside_vllm.weights import image_reader
    from experts.inside_vllm.weights import upload as upload_module
    from experts.inside_vllm.weights.image_format import ImageUnfit
    from experts.inside_vllm.weights.image_reader import ImageReader
    from experts.inside_vllm.weights.image_writer import ImageWriter
    from experts.inside_vllm.weights.upload import Upload

Linear = torch.nn.functional.linear


def an_image() -> Image:
    """A tied kernel, a plain one, an empty weight, one transposed, one of another type."""
    weight = torch.randn(48, 32)
    packed = Packed.of(weight)
    tensors = (weight, torch.randn(6, 4).t(), torch.empty(0), torch.randn(5).bfloat16(), torch.tensor(3))
    return Image(tensors, (packed, Linear, packed))


def written(path: Path, image: Image, key: str = "key") -> Path:
    writer = ImageWriter(path, key, image)
    while not writer.work(1.0):
        pass
    writer.close()
    return path


def same(one: Image, other: Image) -> bool:
    x = torch.randn(3, 32)
    weight = torch.randn(8, 32)
    return all(
        torch.equal(mine, its) and mine.dtype == its.dtype and mine.stride() == its.stride()
        for mine, its in zip(one.data, other.data, strict=True)
    ) and all(
        torch.equal(mine(x, weight, None), its(x, weight, None))
        for mine, its in zip(one.kernels, other.kernels, strict=True)
    )


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    image = an_image()
    reader = ImageReader(written(tmp_path / "image-0", image), "key")
    assert reader.work(1.0)
    found = reader.image()
    assert same(found, image)
    assert found.kernels[0] is found.kernels[2], "written once, and read once"
    assert [file.name for file in tmp_path.iterdir()] == ["image-0"]


def test_an_image_outlives_its_file_and_its_reader(tmp_path: Path) -> None:
    image = an_image()
    path = written(tmp_path / "image-0", image)
    reader = ImageReader(path, "key")
    found = reader.image()
    reader.close()
    del reader
    path.unlink()
    assert same(found, image)


def test_writing_to_a_mapped_weight_does_not_reach_the_file(tmp_path: Path) -> None:
    path = written(tmp_path / "image-0", an_image())
    ImageReader(path, "key").image().data[0].zero_()
    assert ImageReader(path, "key").work(1.0)
    assert ImageReader(path, "key").image().data[0].any()


@pytest.mark.parametrize("place", [4096 + 40, -40, 3, 9])
def test_a_damaged_file_is_found_out(tmp_path: Path, place: int) -> None:
    path = written(tmp_path / "image-0", an_image())
    bytes_there = bytearray(path.read_bytes())
    bytes_there[place] ^= 1
    path.write_bytes(bytes_there)
    with pytest.raises(ImageUnfit):
        ImageReader(path, "key").work(1.0)


@pytest.mark.parametrize("length", [0, 7, 4096, -1])
def test_a_file_that_was_cut_off_is_found_out(tmp_path: Path, length: int) -> None:
    path = written(tmp_path / "image-0", an_image())
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ImageUnfit):
        ImageReader(path, "key")


def test_an_image_of_other_weights_is_not_used(tmp_path: Path) -> None:
    path = written(tmp_path / "image-0", an_image(), "key of yesterday")
    with pytest.raises(ImageUnfit, match="other weights"):
        ImageReader(path, "key")


def test_no_file_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(ImageUnfit, match="image-0"):
        ImageReader(tmp_path / "image-0", "key")


def test_a_writer_that_is_given_up_leaves_no_file(tmp_path: Path) -> None:
    seconds = iter(range(10**6)).__next__  # every look costs one
    writer = ImageWriter(tmp_path / "image-0", "key", an_image(), seconds)
    assert not writer.work(0.0)
    writer.close()
    writer.close()
    assert not list(tmp_path.iterdir())


def test_both_work_in_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_reader, "BATCH_BYTES", 1)
    seconds = iter(range(10**6)).__next__
    writer = ImageWriter(tmp_path / "image-0", "key", an_image(), seconds)
    slices = 1
    while not writer.work(0.0):
        slices += 1
    writer.close()
    assert slices == 5, "one for each weight that has bytes, one of them packed"
    reader = ImageReader(tmp_path / "image-0", "key", clock=seconds)
    slices = 1
    while not reader.work(0.0):
        slices += 1
    assert slices == 5


def test_a_kernel_whose_memory_is_out_of_reach_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ImageUnfit, match="vLLM's own"):
        ImageWriter(tmp_path / "image-0", "key", Image((), (lambda x: x,)))
    assert not list(tmp_path.iterdir())


def test_an_image_is_checked_beside_the_steps_of_another_device(tmp_path: Path) -> None:
    path = written(tmp_path / "image-0", an_image())
    reader = ImageReader(path, "key", beside=True)
    while not reader.work(1.0):
        pass
    assert same(reader.image(), ImageReader(path, "key").image())
    damaged = bytearray(path.read_bytes())
    damaged[4096] ^= 1
    path.write_bytes(damaged)
    reader = ImageReader(path, "key", beside=True)
    with pytest.raises(ImageUnfit, match="checksum"):
        any(reader.work(1.0) for _ in range(1000))
    reader.close()


def test_copying_to_a_device_gives_the_same_weights_in_one_block_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload_module, "SLICE_BYTES", 4096)
    image = an_image()
    reader = ImageReader(written(tmp_path / "image-0", Image(image.data)), "key", beside=True)
    upload = Upload(reader.memory, reader.image, torch.device("cpu"), clock=iter(range(10**6)).__next__)
    slices = 1
    while not upload.work(0.0):
        slices += 1
    upload.close()
    assert slices == -(-reader.memory.nbytes // 4096) > 2
    found = upload.image()
    assert same(found, Image(image.data))
    assert len({weight.untyped_storage().data_ptr() for weight in found.data}) == 1
    assert found.data[0].untyped_storage().data_ptr() != reader.memory.data_ptr()
