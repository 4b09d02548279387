"""Says whether a GPU has room for another expert beside what computing takes."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch

USUAL = (0, 0)
"""The id of torch's usual pool; CUDA graphs have others, which no other tensor gets memory from."""


def free_on(device: torch.device) -> int:
    """Returns the bytes of a GPU that an allocation of ours can have: those that are free, and those that
    torch has kept and would give back for it."""
    free, _ = torch.cuda.mem_get_info(device)
    number = torch.cuda.current_device() if device.index is None else device.index
    return int(free) + given_back(torch.cuda.memory_snapshot(), number)


def given_back(segments: Iterable[Mapping[str, Any]], device: int) -> int:
    """Sums what torch gives back when memory is short: segments of its usual pool, as
    ``torch.cuda.memory_snapshot`` lists them, that are free as a whole."""
    return sum(
        segment["total_size"]
        for segment in segments
        if segment["device"] == device
        and segment["active_size"] == 0
        and tuple(segment["segment_pool_id"]) == USUAL
    )


def check_room(size: int, free: int, activations: int) -> None:
    """Refuses a load of ``size`` bytes for which the ``free`` bytes of a device are too few beside what a
    step may take for ``activations``. Raises torch.OutOfMemoryError."""
    if size + activations > free:
        raise torch.OutOfMemoryError(
            f"it needs {size:,} bytes of the GPU beside {activations:,} that steps may take, "
            f"{free:,} are free"
        )
