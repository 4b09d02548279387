"""Records of the independent model: each expert, engine and copy."""

from dataclasses import dataclass, field

from memory_tiers.members import Family, Member
from memory_tiers.state.records.expert_record import NORMAL
from memory_tiers.tiers import Presence


@dataclass
class Copy:
    """One expert's weights in one tier. ``full``: the bytes that it takes once nothing of it is shared."""

    presence: Presence = "absent"
    bytes: int = 0
    full: int = 0

    def be(self, presence: Presence, size: int) -> None:
        self.presence, self.bytes, self.full = presence, size, size

    def go(self) -> None:
        self.be("absent", 0)

    def stay(self) -> None:
        self.be("present", self.full)


@dataclass
class ModelEngine:
    family: Family
    holds: bool
    runs: bool = False
    busy: bool = False
    scale: float = 1.0

    @property
    def parts(self) -> tuple[int, ...]:
        """The GPUs whose budgets bear it; 0 alone where the device has one budget."""
        return self.family.devices or (0,)

    def whole(self, size: int) -> int:
        """The bytes that it takes of all its GPUs, each as many."""
        return -(-size // len(self.parts)) * len(self.parts)


@dataclass
class ModelExpert:
    """``need``: when the need of those that wait began, as a number of an event; ``priority``: the best of
    tickets since then."""

    member: Member
    engine: ModelEngine
    device: Copy = field(default_factory=Copy)
    host: Copy = field(default_factory=Copy)
    image: bool = False
    removed: bool = False
    measured: int | None = None
    load_began: float = 0.0
    load_seconds: float = 0.0
    loaded_at: float = 0.0
    need: int = 0
    priority: int = NORMAL
    waiting: dict[int, tuple[float, int]] = field(default_factory=dict)
    leases: set[int] = field(default_factory=set)

    @property
    def name(self) -> str:
        return self.member.name

    @property
    def estimate(self) -> int:
        """Bytes on the device: as measured, else as the family's latest measurement makes likely."""
        weights = self.member.weights_bytes
        size = round(weights * self.engine.scale) if self.measured is None else self.measured
        return self.engine.whole(size)
