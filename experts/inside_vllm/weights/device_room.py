"""Says whether a GPU has room for another expert beside what computing takes."""

import torch


def free_on(device: torch.device) -> int:
    """Returns the bytes of a GPU that an allocation of ours can have: those that are free, and those that
    torch has kept of what was freed."""
    free, _ = torch.cuda.mem_get_info(device)
    return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))


def check_room(size: int, free: int, activations: int) -> None:
    """Refuses a load of ``size`` bytes for which the ``free`` bytes of a device are too few beside what a
    step may take for ``activations``. Raises torch.OutOfMemoryError."""
    if size + activations > free:
        raise torch.OutOfMemoryError(
            f"it needs {size:,} bytes of the GPU beside {activations:,} that steps may take, "
            f"{free:,} are free"
        )
