"""The three memory tiers and their budgets."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import ByteSize, Field, PlainValidator, TypeAdapter, ValidationError, model_validator

from experts.spec import Strict

Tier = Literal["device", "host", "disk"]
HEIGHT: Mapping[Tier, int] = {"disk": 0, "host": 1, "device": 2}
"""Order of the tiers."""
Presence = Literal["absent", "arriving", "present", "leaving"]
"""How much of an expert's copy is in one tier."""
PolicyName = Literal["lru", "cost"]

_BYTES = TypeAdapter(ByteSize)


def size_of(value: object) -> ByteSize:
    """Reads bytes, such as 13.5GB. Raises ValueError."""
    try:
        return _BYTES.validate_python(value)
    except ValidationError:
        raise ValueError(f"{value!r} is not a size such as 13.5GB or 64GiB") from None


def _budget(value: object) -> ByteSize | Literal["auto"]:
    if value == "auto":
        return "auto"
    try:
        return size_of(value)
    except ValueError:
        raise ValueError(f"{value!r} is neither auto nor a size such as 78GiB") from None


Budget = Annotated[ByteSize | Literal["auto"], PlainValidator(_budget)]


class TiersSettings(Strict):
    """Says how much of each tier experts may fill and how many requests may wait, as configured."""

    device: Budget
    """Memory for weights on the device, over all engines and GPUs. KV pools are not in it: see ``kv_cache``.
    auto: what is free at the start, less what the engines need beside weights; with GPUs, on each of them."""
    devices: Mapping[int, ByteSize] = Field(default_factory=dict)
    """Memory for weights on each GPU, by its number, in place of ``device``. An expert is charged to the GPUs
    that its family's engine computes on, so every family then has to set its ``devices``."""
    host: Budget = ByteSize(0)
    """Shared memory for copies of weights, the tier that a device load reads from. 0: no host tier. auto:
    what is free at the start and the device does not take, at most what ``/dev/shm`` has or all experts
    need. More than shared memory can hold at the start is lowered to that, with a warning."""
    disk: ByteSize | None = None
    """Most bytes the prepared checkpoints may take together; absent means unlimited."""
    max_wait_s: float = Field(default=30.0, gt=0)
    """Seconds after which a waiting request comes before all others; experts that have just been loaded make
    room for it too."""
    min_residency_s: float | None = Field(default=None, ge=0)
    """Seconds an expert stays on the device before it may leave for another; absent means as long as its last
    load took, ten times as long while it is in use, at most ``max_wait_s``."""
    policy: PolicyName = "cost"
    """Which expert leaves first when another needs room. cost: the one with the lowest recent use times
    measured reload seconds per byte. lru: the one that was used least recently."""
    ttl_s: float | None = Field(default=None, gt=0)
    """Seconds an unused expert stays on the device, unless the expert has a ``ttl_s`` of its own or is
    pinned; absent means until its place is needed."""
    engine_idle_s: float | None = Field(default=None, gt=0)
    """Seconds after which an unused engine is stopped, and gives back all it holds, unless one of its experts
    is pinned or a default; absent means never. The next request starts it again."""
    return_to_default_s: float | None = Field(default=None, gt=0)
    """Seconds without any request after which the experts with ``default: true`` come back to the device;
    absent means that they are only loaded when the server starts."""
    prefetch_share: float = Field(default=0.0, ge=0, le=0.5)
    """Largest share of each tier's memory, and of the time of its loads, that may be spent on experts that
    the router finds probable but no request waits for; 0 means no prefetching. Nothing is prefetched while a
    request waits, and no expert leaves for it that was used at least half as much."""
    event_log: Path | None = None
    """File for every event of the tiers and what followed, for ``coe tiers replay``; absent means none. A
    relative path counts from ``state``. It grows by some 300 bytes for each request."""
    max_queue: int = Field(default=1024, ge=0)
    """Tickets that may wait in all, over all experts; one more is rejected with ``queue_full``."""
    max_queue_per_expert: int | None = Field(default=None, ge=0)
    """Tickets that may wait for one expert; absent means as many as in all."""

    @model_validator(mode="before")
    @classmethod
    def _device_is_their_sum(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or not given.get("devices") or "device" in given:
            return given
        devices = given["devices"]
        sizes = devices.values() if isinstance(devices, Mapping) else ()
        return {**given, "device": sum(int(size_of(size)) for size in sizes)}

    @model_validator(mode="after")
    def _device_goes_with_devices(self) -> Self:
        if self.devices and self.device != sum(self.devices.values()):
            raise ValueError("give device or devices, not both: device is then the sum of devices")
        return self


class TiersConfig(TiersSettings):
    """Is TiersSettings once every budget is in bytes (``memory_tiers.sizing``)."""

    device: ByteSize
    host: ByteSize = ByteSize(0)

    @property
    def device_parts(self) -> Mapping[int, int]:
        """The budgets of the device: of each GPU by its number, or one, as number 0."""
        return {number: int(size) for number, size in self.devices.items()} or {0: int(self.device)}
