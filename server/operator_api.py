"""Wire format of the operators' endpoints, shared by server and command: snapshots of the tiers, orders,
results of a reload."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from memory_tiers.status import EngineStatus, ExpertStatus, MoveProgress, TierStatus
from memory_tiers.tiers import Tier

Verb = Literal["load", "demote", "move", "pin", "unpin", "cancel"]
"""The last part of an order's path."""


class OperatorError(Exception):
    """The gateway cannot be asked, or an order was not carried out; the message is one line that says why."""


class Snapshot(BaseModel):
    """Everything about the tiers at one moment. ``moves`` are those under way."""

    model_config = ConfigDict(frozen=True)

    tiers: tuple[TierStatus, ...]
    engines: tuple[EngineStatus, ...]
    experts: tuple[ExpertStatus, ...]
    moves: tuple[MoveProgress, ...]

    def expert(self, name: str) -> ExpertStatus | None:
        """Returns an expert's status; None: it is not configured."""
        return next((status for status in self.experts if status.expert == name), None)

    def move(self, name: str) -> MoveProgress | None:
        """Returns the move of the expert ``name`` that is under way, if one is."""
        return next((move for move in self.moves if move.expert == name), None)


class Demotion(BaseModel):
    """Order to take an expert down. ``host``: the copy there stays, and is read from disk where there is
    none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tier: Literal["host", "disk"] = "host"


class Destination(BaseModel):
    """Order to bring an expert to a tier."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tier: Tier


class NodeStatus(BaseModel):
    """One node, as the gateway that was asked knows it. ``address``: where it listens for nodes; ``url``: for
    clients; both empty where not known. ``experts``: those above disk, by their tier."""

    model_config = ConfigDict(frozen=True)

    address: str
    state: Literal["this node", "up", "draining", "lost"]
    url: str = ""
    version: str = ""
    running: int = 0
    experts: dict[str, Tier] = {}
    gateway: bool = False
    """Whether it is a gateway alone, without engines."""


class CopyStatus(BaseModel):
    """A copy of an expert above disk, on the node that listens at ``node``."""

    model_config = ConfigDict(frozen=True)

    node: str
    tier: Tier


class MoveStatus(BaseModel):
    """An order of the placement. ``leaves``: down to ``tier``. ``source``: the node whose host memory has the
    expert. ``outcome``: empty while it is under way, then ``done`` or why not."""

    model_config = ConfigDict(frozen=True)

    node: str
    expert: str
    tier: Tier
    leaves: bool
    source: str | None
    seconds: float
    outcome: str


class PlacementStatus(BaseModel):
    """The placement that the node follows. ``placer``: the node that decides. ``term`` and ``count``: the
    epoch of the table; of tables with an equal term the one that counts more is newer."""

    model_config = ConfigDict(frozen=True)

    placer: str
    term: int
    count: int
    table: dict[str, tuple[CopyStatus, ...]]
    moves: tuple[MoveStatus, ...]


class ClusterStatus(BaseModel):
    """All nodes, the one that was asked first. ``placement``: None while none is followed."""

    model_config = ConfigDict(frozen=True)

    nodes: tuple[NodeStatus, ...]
    placement: PlacementStatus | None = None


class Reloaded(BaseModel):
    """Result of a reload. ``changed``: experts with other settings and the same weights. ``compositions``:
    all that are served now. Budgets: those in force now, in bytes."""

    model_config = ConfigDict(frozen=True)

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    compositions: tuple[str, ...]
    device_bytes: int
    host_bytes: int

    def __str__(self) -> str:
        said = {"added": self.added, "removed": self.removed, "changed": self.changed}
        experts = [f"{what} {', '.join(names)}" for what, names in said.items() if names]
        return "; ".join(
            [
                *(experts or ["the same experts"]),
                f"compositions {', '.join(self.compositions) or 'none'}",
                f"tiers.device {self.device_bytes:,} bytes, tiers.host {self.host_bytes:,}",
            ]
        )
