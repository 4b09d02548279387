"""Events of the placement: what nodes and gateways report, each at the time ``at`` of the driver's clock."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, assert_never

from memory_tiers.tiers import Tier


@dataclass(frozen=True, slots=True)
class PlacedExpert:
    """An expert as far as placement has to know it."""

    name: str
    bytes: int


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """Memory of a node in bytes, and how fast it brings an expert to its device: from its host memory, from
    another node's, and from disk."""

    device_bytes: int
    host_bytes: int
    host_bytes_per_s: float
    peer_bytes_per_s: float
    disk_bytes_per_s: float

    @property
    def keeps_on(self) -> Literal["device", "host"]:
        """Names the tier that keeps copies for later: the device where there is no host memory."""
        return "host" if self.host_bytes else "device"

    @property
    def keeps_bytes(self) -> int:
        """Returns the bytes of that tier."""
        return self.host_bytes or self.device_bytes

    @property
    def memory(self) -> int:
        """Returns the bytes of both tiers: a copy on the device need not be on the host too."""
        return self.host_bytes + self.device_bytes

    def seconds(self, size: int, tier: Tier, *, from_peer: bool = False) -> float:
        """Estimates how long ``size`` bytes take from ``tier`` to the device; ``from_peer``: those on disk
        come from another node's memory."""
        match tier:
            case "device":
                return 0.0
            case "host":
                return size / self.host_bytes_per_s
            case "disk":
                rate = (
                    max(self.peer_bytes_per_s, self.disk_bytes_per_s) if from_peer else self.disk_bytes_per_s
                )
                return size / rate + size / self.host_bytes_per_s
            case _:
                assert_never(tier)


@dataclass(frozen=True, slots=True)
class SnapshotTaken:
    """A node said what it holds. ``run`` grows with each start of the node, ``number`` with each snapshot of
    a run. ``copies``: the experts above disk, each with the highest tier that holds it. A node is up from its
    first snapshot on, and again from the first one after it was lost."""

    node: str
    run: int
    number: int
    facts: NodeFacts
    copies: Mapping[str, Tier]
    at: float


@dataclass(frozen=True, slots=True)
class NodeLost:
    """A node does not answer. Snapshots of it that are under way do not bring it back."""

    node: str
    at: float


@dataclass(frozen=True, slots=True)
class DrainBegun:
    """An operator wants to take the node away: what only it holds goes to others first."""

    node: str
    at: float


@dataclass(frozen=True, slots=True)
class DemandSeen:
    """Gateways counted ``rate`` requests a second for the expert, and predict that the next one waits for
    ``wait_s`` where it is now."""

    expert: str
    rate: float
    wait_s: float
    at: float


@dataclass(frozen=True, slots=True)
class OrderFailed:
    """A node could not carry out what it was told about the expert."""

    node: str
    expert: str
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class RebalanceBegun:
    """An operator wants copies spread evenly over the nodes: a node that came late has none else."""

    at: float


@dataclass(frozen=True, slots=True)
class ExpertsChanged:
    """The experts that there are from now on."""

    experts: tuple[PlacedExpert, ...] = field(default=())
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class TimePassed:
    """The deadline of the state has come, or may have."""

    at: float


Event = (
    SnapshotTaken
    | NodeLost
    | DrainBegun
    | DemandSeen
    | OrderFailed
    | RebalanceBegun
    | ExpertsChanged
    | TimePassed
)
