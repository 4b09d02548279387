"""Defines what the node's process and the others tell each other beside single figures."""

from collections.abc import Mapping
from dataclasses import dataclass

from experts.engines.engine import EngineState
from experts.vllm.address import Address
from experts.vllm.reach import EngineRun
from memory_tiers.status import ExpertStatus, MoveProgress
from memory_tiers.tiers import Tier
from server.config.api_keys import KeyRing
from server.config.cluster import Address as NodeAddress
from server.config.settings import Settings
from server.peers.wire import NodeSnapshot
from server.resilience.circuit_breakers import BreakerStates


@dataclass(frozen=True, slots=True)
class Begin:
    """Tells a process what it begins with. ``started``: seconds since 1970 at which the node did."""

    settings: Settings
    verbose: bool
    keys: KeyRing
    started: int


@dataclass(frozen=True, slots=True)
class Tiers:
    """Tells what the tiers hold now, and which breakers are open. ``engines``: state by name. ``node``:
    what the node says about itself; None where there are no others, which listen at ``others``."""

    experts: tuple[ExpertStatus, ...]
    moves: tuple[MoveProgress, ...]
    engines: Mapping[str, EngineState]
    open: BreakerStates
    node: NodeSnapshot | None
    others: tuple[NodeAddress, ...] = ()


@dataclass(frozen=True, slots=True)
class Granted:
    """A lease: as of ``memory_tiers.lease.Lease``, and the way to its engine."""

    number: int
    engine: str
    run: EngineRun
    address: Address
    tier: Tier
    queue_seconds: float
    swap_seconds: float
