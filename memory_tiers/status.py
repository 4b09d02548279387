"""What the tiers look like now."""

from dataclasses import dataclass

from experts.engine import EngineState
from memory_tiers.ledger import Presence
from memory_tiers.tiers import Tier


@dataclass(frozen=True, slots=True)
class ExpertStatus:
    """One expert. ``tier`` is the highest that holds it; ``device`` and ``host`` tell what is on its way.
    Byte counts are what is charged now, 0 where nothing is."""

    expert: str
    family: str
    tier: Tier
    device: Presence
    host: Presence
    pinned: bool
    leases: int
    waiting: int
    device_bytes: int
    host_bytes: int

    @property
    def loading(self) -> bool:
        return "arriving" in (self.device, self.host)


@dataclass(frozen=True, slots=True)
class TierStatus:
    """``capacity_bytes`` None: unlimited. More is used only where measurements exceeded the estimates."""

    tier: Tier
    used_bytes: int
    capacity_bytes: int | None


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """``starts`` counts attempts; ``detail`` says why the engine is dead."""

    family: str
    state: EngineState
    starts: int
    detail: str


@dataclass(frozen=True, slots=True)
class Readiness:
    """Ready: every engine that was to run runs."""

    ready: bool
    engines: tuple[EngineStatus, ...]


@dataclass(frozen=True, slots=True)
class Counts:
    """All zero when nothing is left behind."""

    waiting: int
    leases: int
    moves: int
