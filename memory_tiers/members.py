"""The tiers' configuration: experts, their families, and a change of either."""

from dataclasses import dataclass

from experts.engines.engine import Engine
from experts.spec import Expert


@dataclass(frozen=True, slots=True)
class Member:
    """A configured expert, or, of a family with several engines, the expert on one of them, whose name is
    then ``expert``. ``default``: the device holds it when no request asks for others. ``ttl_s``: how long it
    stays there unused; None: until its place is needed."""

    name: str
    family: str
    weights_bytes: int
    pinned: bool = False
    default: bool = False
    ttl_s: float | None = None
    expert: str = ""

    @property
    def known_as(self) -> str:
        """The expert's name."""
        return self.expert or self.name

    @classmethod
    def of(cls, expert: Expert) -> "Member":
        """Takes what the tiers need from an expert's description."""
        return cls(
            expert.name, expert.family, expert.weights_bytes, expert.pinned, expert.default, expert.ttl_s
        )


@dataclass(frozen=True, slots=True)
class Family:
    """A family's engine, with ``Engine.resident_limit``, ``Engine.held_bytes``, ``Engine.devices`` and
    ``Engine.sleep_after_s``. ``replica_of``: the family of an engine that is not its first."""

    name: str
    resident_limit: int | None
    held: int = 0
    devices: tuple[int, ...] = ()
    replica_of: str = ""
    sleep_after_s: float | None = None

    @property
    def serves(self) -> str:
        """The family whose experts it computes for."""
        return self.replica_of or self.name

    @classmethod
    def of(cls, engine: Engine, replica_of: str = "") -> "Family":
        """Takes what the tiers need from an engine."""
        return cls(
            engine.family,
            engine.resident_limit,
            engine.held_bytes,
            engine.devices,
            replica_of,
            engine.sleep_after_s,
        )


@dataclass(frozen=True, slots=True)
class Revision:
    """A change of the configuration while the tiers serve, all of it or nothing.

    ``added``: new experts, also of the new ``families``. ``removed``: experts that accept no further
    requests; requests that wait for them or use them are served, and a family without experts ends.
    ``changed``: experts with another ``pinned``, ``default`` or ``ttl_s`` and the same weights. ``device``
    and ``host``: budgets in bytes; None: unchanged.
    """

    added: tuple[Member, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[Member, ...] = ()
    families: tuple[Family, ...] = ()
    device: int | None = None
    host: int | None = None
