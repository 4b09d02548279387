"""Checks the way of an image from shared memory to the device: pinned, beside computing, and refused."""

import tempfile
import time
from pathlib import Path

import torch

from experts.inside_vllm.weights.image_reader import ImageReader
from experts.inside_vllm.weights.image_writer import ImageWriter
from experts.inside_vllm.weights.images import Image, weights_of
from experts.inside_vllm.weights.pinning import PinnedFile, PinnedFiles
from experts.inside_vllm.weights.upload import Upload
from memory_tiers.simulator.profiles import Profile
from scripts.gpu_check.clock import settle
from scripts.gpu_check.copies import model_of
from scripts.gpu_check.outcome import Figure, Outcome

RATE_AIM = 0.8
"""Share of the bus that an upload is to reach."""


def check_uploads(size: int, device: torch.device, profile: Profile) -> Outcome:
    """Writes an expert's image to shared memory, and brings it to the device alone and beside computing."""
    weights = tuple(weight.cpu() for weight in weights_of(model_of(size, device)))
    most = RATE_AIM * profile.link_bytes_per_s / 1e9 if device.type == "cuda" else None
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        file = _written(Path(folder) / "image-0", Image(weights))
        reader, files = ImageReader(file, "check", beside=True), PinnedFiles(device=device.index or 0)
        began = time.perf_counter()
        while not reader.work(1.0):
            pass
        figures = [Figure("checksums", size / (time.perf_counter() - began) / 1e9, "GB/s")]
        pinned, wrong = None, []
        if device.type == "cuda":
            began = time.perf_counter()
            pinned = files.register(file, reader.memory)
            pinned.wait()
            figures.append(Figure("registering", size / (time.perf_counter() - began) / 1e9, "GB/s"))
            if pinned.refused:
                wrong.append("the driver pins no memory: raise the limit of locked memory (ulimit -l)")
        for name, busy in (("alone", False), ("beside matrix products", True)):
            found, seconds = _uploaded(reader, device, pinned, busy=busy)
            figures.append(Figure(f"host to device {name}", size / seconds / 1e9, "GB/s", most))
            same = zip(found.data, weights, strict=True)
            if not all(torch.equal(one.cpu(), other) for one, other in same):
                wrong.append(f"what was uploaded {name} is not what was in the file")
        file.unlink()
        files.sweep()
    return Outcome("image to the device", tuple(wrong), tuple(figures))


def check_refusal(device: torch.device) -> Outcome:
    """Has the driver refuse to pin memory that is pinned, and launches a kernel after it."""
    if device.type != "cuda":
        return Outcome("refused registration", skipped="there is no CUDA driver here")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        file = _written(Path(folder) / "image-0", Image((torch.randn(1024, 1024),)))
        memory = ImageReader(file, "check", beside=True).memory
        first, second = (PinnedFiles(device=device.index or 0) for _ in range(2))
        first.register(file, memory).wait()
        again = second.register(file, memory)
        again.wait()
        wrong = [] if again.refused else ["memory that is pinned was pinned once more"]
        try:
            torch.ones(8, device=device).sum().item()
            settle(device)
        except RuntimeError as error:
            wrong.append(f"the refusal is raised by a kernel after it: {error}")
        file.unlink()
        first.sweep()
    return Outcome("refused registration", tuple(wrong))


def _written(path: Path, image: Image) -> Path:
    writer = ImageWriter(path, "check", image)
    try:
        while not writer.work(1.0):
            pass
    finally:
        writer.close()
    return path


def _uploaded(
    reader: ImageReader, device: torch.device, pinned: PinnedFile | None, *, busy: bool
) -> tuple[Image, float]:
    """Brings the image to the device; with ``busy`` the device multiplies matrices meanwhile."""
    x = torch.randn(1024, 1024, device=device)
    memory = reader.memory if pinned is None else pinned.memory
    upload = Upload(memory, reader.image, device, pinned)
    began = time.perf_counter()
    while not upload.work(0.001):
        if busy:
            x = torch.tanh(x @ x)
    upload.close()
    seconds = time.perf_counter() - began
    settle(device)
    return upload.image(), seconds
