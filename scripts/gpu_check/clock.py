"""Times work on a device: by events on its stream on CUDA, by the clock on CPU."""

import time
from collections.abc import Callable

import torch


def seconds_of(work: Callable[[], object], device: torch.device, times: int = 5) -> float:
    """Returns the median of the seconds that ``work`` takes, after it was done once."""
    work()
    taken: list[float] = []
    for _ in range(times):
        if device.type == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            work()
            end.record()
            end.synchronize()
            taken.append(float(begin.elapsed_time(end)) / 1e3)
        else:
            began = time.perf_counter()
            work()
            taken.append(time.perf_counter() - began)
    return sorted(taken)[len(taken) // 2]


def settle(device: torch.device) -> None:
    """Waits for all that the device was asked for. Raises what it failed with."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
