"""What the tiers know of each expert and of each engine."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Optional, get_args

from experts.engines.engine import EngineState
from memory_tiers.events import MoveReason, Priority
from memory_tiers.move_costs import WEIGHT_OF_LATEST
from memory_tiers.state.ledger import Copy
from memory_tiers.state.policy import NEVER_USED
from memory_tiers.tiers import Tier

PRIORITIES: tuple[Priority, ...] = get_args(Priority)
NORMAL = PRIORITIES.index("normal")


@dataclass(slots=True, eq=False)
class EngineRecord:
    """One engine. ``held``: bytes that it takes of the device while it runs, whoever is resident; ``holds``:
    they are charged, from the beginning, or from its start if it came later, until it is stopped, and again
    from its next start. ``busy`` names the expert that its one running move, or its start, is about."""

    family: str
    resident_limit: int | None
    held: int
    holds: bool
    members: dict[str, "ExpertRecord"] = field(default_factory=dict)
    state: EngineState = "stopped"
    detail: str = ""
    busy: str | None = None
    stopping: bool = False
    """Its stop is under way; what was resident is leaving."""
    leases: int = 0
    last_used: float = 0.0
    starts: int = 0
    failures: int = 0
    """Starts that failed in a row."""
    images: bool = True
    """Whether it leaves images on the host; expected of it until a load has left none."""
    seconds_per_byte: float | None = None
    """What loads of the family take, smoothed."""
    scale: float = 1.0
    """Device bytes for each byte of weights, from the family's latest measurement."""
    residents: dict[str, "ExpertRecord"] = field(default_factory=dict)
    """Experts present, arriving or leaving on the device."""
    queues: tuple[dict[str, "ExpertRecord"], ...] = field(default_factory=lambda: ({}, {}, {}))
    """Experts that somebody waits for or that are wanted, by their priority, in the order in which that
    began."""
    bound_hits: int = 0
    """How often somebody waited as long as ``max_wait_s``."""

    def __repr__(self) -> str:
        return f"<{self.family} {self.state} busy={self.busy} residents={','.join(self.residents)}>"

    def took(self, seconds: float, size: int) -> None:
        """A load was measured."""
        if seconds > 0 and size > 0:
            before = self.seconds_per_byte
            latest = seconds / size
            smoothed = latest if before is None else before + WEIGHT_OF_LATEST * (latest - before)
            self.seconds_per_byte = smoothed

    @property
    def first(self) -> Optional["ExpertRecord"]:
        """Whom it starts with when nobody waits: of those that did not fail, if there are such, the first
        pinned, else the first default, else the first."""
        members = [member for member in self.members.values() if not member.removed]
        return min(
            members,
            key=lambda member: (bool(member.failure), not member.pinned, not member.default),
            default=None,
        )

    @property
    def leaving(self) -> bool:
        """None of its experts is configured any more."""
        return all(member.removed for member in self.members.values())

    @property
    def occupied(self) -> bool:
        """It can do nothing else now."""
        return self.busy is not None or self.stopping

    @property
    def single_resident(self) -> bool:
        """It keeps its place whatever happens and only takes another expert instead: memory comes back by
        stopping it."""
        return self.resident_limit == 1

    @property
    def queued(self) -> Iterator["ExpertRecord"]:
        for line in self.queues:
            yield from line.values()

    def first_queued(self, count: int) -> Iterator["ExpertRecord"]:
        """At most ``count`` of each priority."""
        for line in self.queues:
            yield from islice(line.values(), count)

    def enqueue(self, expert: "ExpertRecord") -> None:
        self.queues[expert.priority][expert.name] = expert

    def dequeue(self, expert: "ExpertRecord") -> bool:
        """Whether it was in line."""
        return self.queues[expert.priority].pop(expert.name, None) is not None

    @property
    def full(self) -> bool:
        return self.resident_limit is not None and len(self.residents) >= self.resident_limit


@dataclass(slots=True, eq=False)
class ExpertRecord:
    """One expert. ``waiting`` maps tickets to when they were asked for, ``leases`` maps tickets to the engine
    start they were granted under. ``wanted``: by a wish of our own (a pin, an engine to start)."""

    name: str
    engine: EngineRecord
    weights_bytes: int
    device: Copy
    host: Copy
    pinned: bool = False
    default: bool = False
    ttl_s: float | None = None
    last_used: float = 0.0
    read_began: float = 0.0
    load_began: float = 0.0
    load_seconds: float = 0.0
    """What bringing it to the device took last; 0 for the expert an engine started with."""
    copied_at: float = 0.0
    loaded_at: float = 0.0
    seconds_per_byte: float = 1.0
    """What loads of its family took when it came; 1 before one was measured, when nothing can be compared."""
    device_use: float = NEVER_USED
    """How much it was used of late, by the device's turnovers; see ``policy.recency_weighted_use``."""
    host_use: float = NEVER_USED
    waiting: dict[int, float] = field(default_factory=dict)
    leases: dict[int, int] = field(default_factory=dict)
    wanted: bool = False
    restored: bool = False
    """It is wanted because its engine died with it, or to start its engine: if there is room without anybody
    leaving."""
    queue_number: int = 0
    """Its place in line: when the need for it began."""
    priority: int = NORMAL
    """The best of those who waited since then: an index of ``PRIORITIES``."""
    bound_hit: bool = False
    """Somebody has waited for it as long as ``max_wait_s`` since then."""
    ordered: Tier | None = None
    """Where it has to go, and no further up, as soon as nobody uses it."""
    order_reason: MoveReason = "operator"
    removed: bool = False
    """It is not configured any more."""
    stays_until: float = 0.0
    """Removed, it could not be given back; not tried again before."""
    cancelled: bool = False
    """The load under way is not wanted any more."""
    failure: str = ""
    """Why its latest load failed; empty when it did not."""
    image: bool = False
    """Its host copy is an image in the engine's format, not the checkpoint."""
    fatal_loads: int = 0
    """Loads in a row during which the engine died."""
    stuck: bool = False
    """It could not be evicted; not tried again before it is used or somebody was rejected for it."""

    def __repr__(self) -> str:
        return (
            f"<{self.name} device={self.device.presence} host={self.host.presence} "
            f"leases={len(self.leases)} waiting={len(self.waiting)}{' pinned' if self.pinned else ''}>"
        )

    @property
    def tier(self) -> Tier:
        """The highest tier that holds the expert now."""
        if self.device.presence == "present":
            return "device"
        return "host" if self.host.presence == "present" else "disk"

    @property
    def needed(self) -> bool:
        return bool(self.waiting) or self.wanted

    @property
    def since(self) -> float | None:
        """When the oldest ticket that waits was asked for; None when nobody waits."""
        return next(iter(self.waiting.values()), None)

    @property
    def device_bytes(self) -> int:
        """What it holds, or is expected to hold, on the device."""
        return self.device.bytes if self.device.measured else round(self.weights_bytes * self.engine.scale)
