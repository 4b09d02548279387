"""The three memory tiers and their budgets."""

from typing import Literal

from pydantic import ByteSize, Field

from experts.spec import Strict

Tier = Literal["device", "host", "disk"]


class TiersConfig(Strict):
    """How much of each tier experts may fill, and how many requests may wait."""

    device: ByteSize
    """Memory for weights on the device, over all engines. KV pools are not in it: see ``kv_cache``."""
    host: ByteSize = ByteSize(0)
    """Shared memory for copies of weights, the tier that a device load reads from. 0: no host tier."""
    disk: ByteSize | None = None
    """Most bytes the prepared checkpoints may take together; absent means unlimited."""
    max_queue: int = Field(default=1024, ge=0)
    """Tickets that may wait in all, over all experts; one more is rejected with ``queue_full``."""
