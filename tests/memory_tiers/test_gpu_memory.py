"""NVIDIA's library asked for the machine's GPUs."""

import sys
from types import SimpleNamespace

import pytest

from experts.errors import MemoryUnknown
from memory_tiers.gpu_memory import gpus_here, used_here


class NvmlError(Exception):
    pass


def library(monkeypatch: pytest.MonkeyPatch, sizes: list[int] | None) -> list[str]:
    """Puts GPUs of these sizes in the place of NVIDIA's library; None: no driver; a negative size: a GPU that
    does not answer. Returns the calls that open and close it."""
    calls: list[str] = []

    def begin() -> None:
        if sizes is None:
            raise NvmlError("Driver Not Loaded")
        calls.append("init")

    def told(handle: int) -> SimpleNamespace:
        if sizes is None or sizes[handle] < 0:
            raise NvmlError("GPU is lost")
        return SimpleNamespace(total=sizes[handle], used=sizes[handle] // 4)

    nvml = SimpleNamespace(
        NVMLError=NvmlError,
        nvmlInit=begin,
        nvmlShutdown=lambda: calls.append("shutdown"),
        nvmlDeviceGetCount=lambda: len(sizes or ()),
        nvmlDeviceGetHandleByIndex=lambda number: number,
        nvmlDeviceGetMemoryInfo=told,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    return calls


def test_each_gpu_tells_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = library(monkeypatch, [80, 24])
    assert gpus_here() == [80, 24]
    assert calls == ["init", "shutdown"]
    assert used_here() == [20, 6]


def test_without_a_driver_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    library(monkeypatch, None)
    assert gpus_here() == []


def test_without_the_library_or_an_answer_it_is_said_what_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = library(monkeypatch, [-1])
    with pytest.raises(MemoryUnknown, match=r"GPU is lost.*told, as --gpus 8x80GB"):
        gpus_here()
    assert calls == ["init", "shutdown"]
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(MemoryUnknown, match="pip install nvidia-ml-py"):
        gpus_here()
