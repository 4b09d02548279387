"""The three memory tiers and their budgets."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import ByteSize, Field, PlainValidator, TypeAdapter, ValidationError

from experts.spec import Strict

Tier = Literal["device", "host", "disk"]
PolicyName = Literal["lru", "cost"]


_BYTES = TypeAdapter(ByteSize)


def _budget(value: object) -> ByteSize | Literal["auto"]:
    if value == "auto":
        return "auto"
    try:
        return _BYTES.validate_python(value)
    except ValidationError:
        raise ValueError(f"{value!r} is neither auto nor a size such as 78GiB") from None


Budget = Annotated[ByteSize | Literal["auto"], PlainValidator(_budget)]


class TiersSettings(Strict):
    """How much of each tier experts may fill, and how many requests may wait, as configured."""

    device: Budget
    """Memory for weights on the device, over all engines. KV pools are not in it: see ``kv_cache``. auto:
    what is free at the start, less what the engines need beside weights."""
    host: Budget = ByteSize(0)
    """Shared memory for copies of weights, the tier that a device load reads from. 0: no host tier. auto:
    what is free at the start and the device does not take, at most what ``/dev/shm`` has or all experts
    need."""
    disk: ByteSize | None = None
    """Most bytes the prepared checkpoints may take together; absent means unlimited."""
    max_wait_s: float = Field(default=30.0, gt=0)
    """Who has waited longer than this for an expert comes first, and experts that have just been loaded make
    room for it too."""
    min_residency_s: float | None = Field(default=None, ge=0)
    """Seconds an expert stays on the device before it may leave for another; absent means as long as its last
    load took, ten times as long while it is in use, at most ``max_wait_s``."""
    policy: PolicyName = "cost"
    """Who leaves first when another expert needs room. cost: who was used least often of late, times the
    seconds that bringing back each of its bytes takes. lru: who was used least recently."""
    event_log: Path | None = None
    """File for every event of the tiers and what followed, for ``coe tiers replay``; absent means none. A
    relative path counts from the configuration file. It grows by some 300 bytes for each request."""
    max_queue: int = Field(default=1024, ge=0)
    """Tickets that may wait in all, over all experts; one more is rejected with ``queue_full``."""
    max_queue_per_expert: int | None = Field(default=None, ge=0)
    """Tickets that may wait for one expert; absent means as many as in all."""


class TiersConfig(TiersSettings):
    """The same where no budget is open any more (``memory_tiers.sizing``)."""

    device: ByteSize
    host: ByteSize = ByteSize(0)
