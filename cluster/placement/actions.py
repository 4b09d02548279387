"""Actions of the placement: orders to nodes, and the table that gateways follow."""

from dataclasses import dataclass
from typing import Literal

from memory_tiers.tiers import Tier

Held = Literal["device", "host"]
"""A tier above disk."""


@dataclass(frozen=True, slots=True, order=True)
class Epoch:
    """Age of a table. ``term``: grows with each placement that is begun; ``count``: with each table of it."""

    term: int
    count: int


@dataclass(frozen=True, slots=True)
class Want:
    """Tells the node to bring the expert to ``tier``. ``source``: a node whose host memory has it, None where
    none does: then from disk."""

    node: str
    expert: str
    tier: Held
    source: str | None


@dataclass(frozen=True, slots=True)
class Unwant:
    """Tells the node that the expert may leave ``tier`` for the one below."""

    node: str
    expert: str
    tier: Held


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy of an expert, as seen by a snapshot."""

    node: str
    tier: Tier


@dataclass(frozen=True, slots=True)
class Entry:
    """The copies of one expert on nodes that are up, by the nodes' names. A draining node's are not in it."""

    expert: str
    copies: tuple[Copy, ...]


@dataclass(frozen=True, slots=True)
class Publish:
    """Tells gateways of the entries that changed since the epoch before."""

    epoch: Epoch
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Drained:
    """Says, once, that everything a draining node holds is held by another too: it may end."""

    node: str


Action = Want | Unwant | Publish | Drained
