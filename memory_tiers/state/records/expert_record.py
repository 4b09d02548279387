"""Records what the tiers know of each expert and of each engine."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Optional, get_args

from experts.engines.engine import EngineState
from memory_tiers.actions import MoveReason
from memory_tiers.events import Priority
from memory_tiers.members import Family
from memory_tiers.move_costs import WEIGHT_OF_LATEST
from memory_tiers.state.records.ledger import ALL, Copy, HostCopy, Parts, whole
from memory_tiers.state.records.recency_weighted_use import NEVER_USED
from memory_tiers.tiers import Tier

PRIORITIES: tuple[Priority, ...] = get_args(Priority)
NORMAL = PRIORITIES.index("normal")


@dataclass(slots=True, eq=False)
class EngineRecord:
    """One engine, which is ``configured`` as its family says. ``held``: bytes of the device that it takes
    while it runs, whichever experts are resident, in equal shares on its ``parts``.
    ``holds``: whether they are charged, from the beginning, or from its start if it came later, until it is
    stopped, and again from its next start. ``busy``: the expert of its one running move, or of its start."""

    configured: Family
    family: str
    resident_limit: int | None
    held: int
    holds: bool
    parts: Parts = (ALL,)
    serves: str = ""
    """The family whose experts it computes for; other engines may, too."""
    number: int = 0
    """Counts the engines of its family."""
    members: dict[str, "ExpertRecord"] = field(default_factory=dict)
    state: EngineState = "stopped"
    detail: str = ""
    busy: str | None = None
    stopping: bool = False
    """Whether its stop is under way; what was resident is leaving."""
    sleep_after_s: float | None = None
    asleep: bool = False
    """Whether it has given the device's memory back, though it runs (``ready``); a load wakes it."""
    waking: bool = False
    """Whether the load under way found it asleep."""
    wake_s: float = 0.0
    """Smoothed seconds that a load takes longer where it wakes the engine; 0 until one was measured."""
    leases: int = 0
    last_used: float = 0.0
    starts: int = 0
    failures: int = 0
    """Consecutive starts that failed."""
    images: bool = True
    """Whether it leaves images on the host; assumed until a load has left none."""
    seconds_per_byte: float | None = None
    """Smoothed seconds that loads of the family take."""
    scale: float = 1.0
    """Device bytes for each byte of weights, from the family's latest measurement."""
    residents: dict[str, "ExpertRecord"] = field(default_factory=dict)
    """Experts present, arriving or leaving on the device."""
    queues: tuple[dict[str, "ExpertRecord"], ...] = field(default_factory=lambda: ({}, {}, {}))
    """Experts that tickets wait for or that are wanted, one queue a priority, in the order in which the need
    began."""
    bound_hits: int = 0
    """How often an expert's oldest ticket waited as long as ``max_wait_s``."""

    def __repr__(self) -> str:
        return f"<{self.family} {self.state} busy={self.busy} residents={','.join(self.residents)}>"

    def took(self, seconds: float, size: int) -> None:
        """Takes in the seconds of a load of ``size`` bytes."""
        if seconds > 0 and size > 0:
            before = self.seconds_per_byte
            latest = seconds / size
            smoothed = latest if before is None else before + WEIGHT_OF_LATEST * (latest - before)
            self.seconds_per_byte = smoothed

    def woke(self, seconds: float, size: int) -> None:
        """Takes in the seconds of a load of ``size`` bytes that woke it, where loads were measured before."""
        if self.seconds_per_byte is not None:
            latest = max(0.0, seconds - size * self.seconds_per_byte)
            self.wake_s += (WEIGHT_OF_LATEST if self.wake_s else 1.0) * (latest - self.wake_s)

    @property
    def first(self) -> Optional["ExpertRecord"]:
        """The expert it starts with when no ticket waits: the first pinned, else the first default, else the
        first, of those that did not fail if there are such. None where it has no experts."""
        members = [member for member in self.members.values() if not member.removed]
        turned = (
            self.number % len(members) if members else 0
        )  # engines of one family start with different ones
        return min(
            members[turned:] + members[:turned],
            key=lambda member: (
                bool(member.failure),
                not member.pinned,
                not member.default,
                any(replica.pinned or replica.default for replica in member.replicas),
            ),
            default=None,
        )

    @property
    def leaving(self) -> bool:
        """Whether none of its experts is configured any more."""
        return all(member.removed for member in self.members.values())

    @property
    def occupied(self) -> bool:
        """Whether a move, a start or a stop keeps it from any other now."""
        return self.busy is not None or self.stopping

    @property
    def single_resident(self) -> bool:
        """Whether it holds exactly one expert, which it only exchanges for another: memory comes back only by
        stopping it."""
        return self.resident_limit == 1

    @property
    def queued(self) -> Iterator["ExpertRecord"]:
        """All experts of its queues, the highest priority first."""
        for queue in self.queues:
            yield from queue.values()

    def first_queued(self, count: int) -> Iterator["ExpertRecord"]:
        """Yields at most ``count`` experts of each priority."""
        for queue in self.queues:
            yield from islice(queue.values(), count)

    def enqueue(self, expert: "ExpertRecord") -> None:
        """Puts the expert at the end of its priority's queue."""
        self.queues[expert.priority][expert.name] = expert

    def dequeue(self, expert: "ExpertRecord") -> bool:
        """Takes the expert out of its queue and says whether it was in."""
        return self.queues[expert.priority].pop(expert.name, None) is not None

    @property
    def full(self) -> bool:
        """Whether it holds as many experts as it can."""
        return self.resident_limit is not None and len(self.residents) >= self.resident_limit


@dataclass(slots=True, eq=False)
class ExpertRecord:
    """One expert on one engine. ``replicas``: the expert on each engine of its family, this one among them,
    which share ``host``. ``waiting`` maps tickets to when they were asked for, ``leases`` maps tickets to the
    engine start under which they were granted. ``wanted``: the tiers themselves want it on the device,
    because of a pin, a default, an order or an engine that is to start."""

    name: str
    engine: EngineRecord
    weights_bytes: int
    device: Copy
    host: HostCopy
    replicas: list["ExpertRecord"] = field(default_factory=list)
    expert: str = ""
    """The expert's name, which is the name of the first of ``replicas``."""
    pinned: bool = False
    default: bool = False
    ttl_s: float | None = None
    kept_s: float | None = None
    """Seconds that the latest request for it asked for in the place of ``ttl_s``; None: nothing."""
    last_used: float = 0.0
    load_began: float = 0.0
    load_seconds: float = 0.0
    """Seconds of its last load to the device; 0 for the expert an engine started with."""
    loaded_at: float = 0.0
    seconds_per_byte: float = 1.0
    """Seconds that loads of its family took when it came, or when the first one was measured, if later; those
    of another family before that; 1 before any was measured."""
    device_use: float = NEVER_USED
    """Its recency-weighted use by the device's turnovers: see ``recency_weighted_use``."""
    host_use: float = NEVER_USED
    waiting: dict[int, float] = field(default_factory=dict)
    leases: dict[int, int] = field(default_factory=dict)
    wanted: bool = False
    restored: bool = False
    """Whether it is wanted only if there is room without an eviction: its engine died with it, or needs an
    expert to start with."""
    spread: bool = False
    """Whether it is wanted only beside the same expert on an engine that has much to do."""
    queue_number: int = 0
    """Counts needs in the order in which they began; the lower number is served first."""
    priority: int = NORMAL
    """The highest priority among tickets that waited since then: an index of ``PRIORITIES``."""
    bound_hit: bool = False
    """Whether a ticket has waited for it as long as ``max_wait_s`` since then."""
    ordered: Tier | None = None
    """The tier it has to be in, as soon as no lease holds it."""
    order_reason: MoveReason = "operator"
    removed: bool = False
    """Whether it is not configured any more."""
    stays_until: float = 0.0
    """When giving back a removed expert, which failed, is tried again."""
    cancelled: bool = False
    """Whether the load under way is not wanted any more."""
    failure: str = ""
    """Why its latest load failed; empty when it did not."""
    fatal_loads: int = 0
    """Consecutive loads during which the engine died."""
    stuck: bool = False
    """Whether evicting it failed; not tried again before it is used, or a ticket was rejected for it, or its
    engine ended."""

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
    def first(self) -> "ExpertRecord":
        """The record that stands for the expert where no engine is meant."""
        return self.replicas[0]

    @property
    def arriving_elsewhere(self) -> bool:
        """Whether another engine that runs loads it: one does at a time, as a load may leave an image for the
        next."""
        return any(
            other.device.presence == "arriving" and other.engine.state == "ready"
            for other in self.replicas
            if other is not self
        )

    @property
    def read_elsewhere(self) -> bool:
        """Whether another engine reads its copy, to load it or to start with it."""
        return any(other.device.presence == "arriving" for other in self.replicas if other is not self)

    @property
    def needed(self) -> bool:
        """Whether a ticket waits for it or the tiers want it."""
        return bool(self.waiting) or self.wanted

    @property
    def since(self) -> float | None:
        """When the oldest waiting ticket was asked for; None when none waits."""
        return next(iter(self.waiting.values()), None)

    @property
    def device_bytes(self) -> int:
        """Bytes that it holds, or is expected to hold, on the device."""
        size = self.device.bytes if self.device.measured else round(self.weights_bytes * self.engine.scale)
        return whole(size, self.engine.parts)
