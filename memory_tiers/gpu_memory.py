"""Reads what memory the machine's GPUs have from NVIDIA's driver (NVML), without torch."""

from experts.errors import MemoryUnknown


def gpus_here() -> list[int]:
    """Lists the memory of all GPUs of the machine, in the order of the PCI bus; none where there is no
    driver. Raises MemoryUnknown without nvidia-ml-py."""
    return [total for total, _ in _totals_and_used()]


def used_here() -> list[int]:
    """Lists the bytes of each GPU that are used now, by whatever process. Raises MemoryUnknown."""
    return [used for _, used in _totals_and_used()]


def _totals_and_used() -> list[tuple[int, int]]:
    try:
        import pynvml
    except ImportError as error:
        raise MemoryUnknown(
            "pip install nvidia-ml-py; coe plan can also be told, as --gpus 8x80GB"
        ) from error
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(pynvml.nvmlDeviceGetCount())]
        found = [pynvml.nvmlDeviceGetMemoryInfo(handle) for handle in handles]
        return [(int(memory.total), int(memory.used)) for memory in found]
    except pynvml.NVMLError as error:
        raise MemoryUnknown(
            f"NVML does not say what GPUs have ({error}); coe plan can be told, as --gpus 8x80GB"
        ) from error
    finally:
        pynvml.nvmlShutdown()
