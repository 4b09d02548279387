"""The CUDA path of images, where there is a CUDA device: copies beside computing, graphs that stay valid."""

import warnings
from pathlib import Path

import pytest
import torch

from experts.inside_vllm.weights.images import CopyImages, Image

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # vLLM's imports
    from experts.inside_vllm.weights.arrival import Arrival, Place
    from experts.inside_vllm.weights.image_reader import ImageReader
    from experts.inside_vllm.weights.image_writer import ImageWriter
    from experts.inside_vllm.weights.loading import Loading
    from experts.inside_vllm.weights.pinning import PinnedFiles
    from experts.inside_vllm.weights.upload import Upload

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
SHAPE = (2048, 2048)


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda")


def written(path: Path, image: Image) -> Path:
    writer = ImageWriter(path, "key", image)
    while not writer.work(1.0):
        pass
    writer.close()
    return path


def no_checkpoint() -> Loading:
    raise AssertionError("there is an image")


def test_an_image_goes_to_host_memory_and_comes_back_beside_a_busy_device(
    device: torch.device, tmp_path: Path
) -> None:
    weights = tuple(torch.randn(SHAPE, device=device) for _ in range(8))
    place = Place(written(tmp_path / "image-0", Image(weights)), "key")
    arrival = Arrival("a", no_checkpoint, place, device, PinnedFiles())
    x = torch.randn(SHAPE, device=device)
    for _ in range(10_000):
        x = torch.tanh(x @ weights[0])
        if arrival.work(0.01):
            break
    found = arrival.image().data
    arrival.close()
    assert all(torch.equal(one, other) for one, other in zip(found, weights, strict=True))
    assert {one.device.type for one in found} == {"cuda"}


def test_a_file_is_pinned_once_and_let_go_of_when_it_is_deleted(device: torch.device, tmp_path: Path) -> None:
    path = written(tmp_path / "image-0", Image((torch.randn(SHAPE),)))
    files = PinnedFiles(device=0)
    first = files.register(path, ImageReader(path, "key", beside=True).memory)
    assert files.register(path, ImageReader(path, "key", beside=True).memory) is first
    first.wait()
    assert first.memory.is_pinned()
    upload = Upload(first.memory, ImageReader(path, "key").image, device, first)
    while not upload.work(1.0):
        pass
    upload.close()
    path.unlink()
    files.sweep()
    assert not first.memory.is_pinned()


def test_a_captured_graph_computes_with_the_expert_that_is_activated(device: torch.device) -> None:
    model = torch.nn.Linear(64, 64, bias=False, device=device).requires_grad_(False)
    images = CopyImages(model, "a")
    b = torch.randn(64, 64, device=device)
    images.add("b", Image((b,)))
    x = torch.randn(4, 64, device=device)
    a = model.weight.detach().clone()
    torch.cuda.synchronize()
    model(x)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = model(x)
    for name, weight in (("b", b), ("a", a), ("b", b)):
        images.activate(name)
        graph.replay()
        torch.testing.assert_close(y, x @ weight.t(), rtol=1e-3, atol=1e-3)
