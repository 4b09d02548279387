"""Reads what memory GPUs have, and what of it is free, from NVIDIA's driver (NVML), without torch."""

from collections.abc import Sequence
from types import ModuleType

from experts.errors import MemoryUnknown
from experts.memory.machine_memory import Room


def gpu_memory(devices: Sequence[str]) -> Room:
    """Sums what is free on ``devices``: UUIDs, or numbers in the order of the PCI bus (in which CUDA counts
    with CUDA_DEVICE_ORDER=PCI_BUS_ID, or where all GPUs are of one kind). Raises MemoryUnknown."""
    try:
        import pynvml  # only here: most gateways have no GPU
    except ImportError as error:
        raise MemoryUnknown("pip install nvidia-ml-py, or give tiers.device in bytes") from error
    try:
        pynvml.nvmlInit()
        try:
            free = sum(int(pynvml.nvmlDeviceGetMemoryInfo(_handle(pynvml, name)).free) for name in devices)
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        raise MemoryUnknown(
            f"NVML does not say what is free on GPU {', '.join(devices)} ({error}); "
            "give tiers.device in bytes"
        ) from error
    return Room(free, f"NVML's free memory of GPU {', '.join(devices)}")


def gpus_here() -> list[int]:
    """Lists the memory of all GPUs of the machine, in the order of the PCI bus; none where there is no
    driver. Raises MemoryUnknown without nvidia-ml-py."""
    try:
        import pynvml
    except ImportError as error:
        raise MemoryUnknown("pip install nvidia-ml-py, or name the GPUs, as --gpus 8x80GB") from error
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(pynvml.nvmlDeviceGetCount())]
        return [int(pynvml.nvmlDeviceGetMemoryInfo(handle).total) for handle in handles]
    except pynvml.NVMLError as error:
        raise MemoryUnknown(
            f"NVML does not say what GPUs have ({error}); name them, as --gpus 8x80GB"
        ) from error
    finally:
        pynvml.nvmlShutdown()


def _handle(pynvml: ModuleType, name: str) -> object:
    if name.isdigit():
        return pynvml.nvmlDeviceGetHandleByIndex(int(name))
    return pynvml.nvmlDeviceGetHandleByUUID(name)
