"""NVIDIA's library asked for what is free, or for what to write instead."""

import pytest

from experts.errors import MemoryUnknown
from memory_tiers.gpu_memory import gpu_memory


def test_without_nvidias_library_or_driver_it_is_said_what_to_write() -> None:
    with pytest.raises(MemoryUnknown, match=r"give tiers\.device in bytes"):
        gpu_memory(["GPU-that-is-nowhere"])


@pytest.mark.gpu
def test_a_gpu_tells() -> None:
    pytest.importorskip("pynvml")
    try:
        room = gpu_memory(["0"])
    except MemoryUnknown as error:
        pytest.skip(str(error))
    assert 0 < room.bytes < 10**12
