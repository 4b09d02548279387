"""Prometheus series of what happens in the tiers, counted as it happens: moves, evictions, leases, starts."""

import itertools
from typing import assert_never, get_args

from prometheus_client import CollectorRegistry

from memory_tiers.actions import MoveReason
from memory_tiers.observations import (
    Displaced,
    EngineChanged,
    LeaseEnded,
    LeaseGranted,
    MoveDone,
    Observation,
    TicketEnded,
)
from memory_tiers.tiers import Tier
from server.metrics.counter import Counter
from server.metrics.histogram import Histogram

WAITS = (0.1, 0.5, 1, 2.5, 10, 60)
MOVES = (0.1, 1, 10)
AGES = (10, 60, 600, 3600)
STARTS = (10, 30, 60, 120, 300)
TIERS: tuple[Tier, ...] = get_args(Tier)
DOWN: tuple[MoveReason, ...] = ("eviction", "over_budget", "idle", "removed", "unusable", "operator")
PATHS: dict[Tier, str] = {"device": "hot", "host": "warm", "disk": "cold"}


class TierMetrics:
    """Counters whose labels are closed sets exist from the start, so that rates do; histograms from the first
    observation on. These have few bounds, or none but infinity where only sums are asked for: each bound is a
    line for each combination of labels."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._move_seconds = Histogram(
            "coe_move_seconds",
            "Seconds of one move of an expert between tiers",
            ["from_tier", "to_tier", "reason", "outcome"],
            buckets=MOVES,
            registry=registry,
        )
        self._move_bytes = Histogram(
            "coe_move_bytes",
            "Bytes moved, or given back by a move down; 0 unless done",
            ["from_tier", "to_tier", "outcome"],
            buckets=(),
            registry=registry,
        )
        self._evictions = Counter(
            "coe_evictions", "Copies that left the device or the host", ["tier", "reason"], registry=registry
        )
        self._ages = Histogram(
            "coe_eviction_age_seconds",
            "Seconds that a copy had been in the tier that it left",
            ["tier", "reason"],
            buckets=AGES,
            registry=registry,
        )
        self._from_nodes = Counter(
            "coe_move_bytes_from_nodes",
            "Bytes of weights that came from other nodes' host memory, where disk would have had them too",
            [],
            registry=registry,
        )
        self._hits = Counter(
            "coe_tier_hits",
            "Leases by the tier where the expert was when it was asked for",
            ["tier"],
            registry=registry,
        )
        self._actuations = Counter(
            "coe_actuations",
            "Leases by expert: hot on the device, warm on the host, cold on disk",
            ["expert", "path"],
            registry=registry,
        )
        self._queue_seconds = Histogram(
            "coe_lease_wait_seconds",
            "From ticket to lease; tier: where the expert was when it was asked for",
            ["tier"],
            buckets=WAITS,
            registry=registry,
        )
        self._lease_seconds = Histogram(
            "coe_lease_seconds",
            "From a lease's grant to its release",
            [],
            buckets=(),
            registry=registry,
        )
        self._tickets = Counter(
            "coe_tickets",
            "Tickets ended: granted, cancelled (the client left), broken, or why rejected",
            ["expert", "outcome"],
            registry=registry,
        )
        self._start_seconds = Histogram(
            "coe_engine_start_seconds",
            "Seconds of one start of an engine, done or failed",
            ["family", "outcome"],
            buckets=STARTS,
            registry=registry,
        )
        self._wake_seconds = Histogram(
            "coe_engine_wake_seconds",
            "Seconds in which an engine that slept had its first expert again",
            ["family"],
            buckets=(),
            registry=registry,
        )
        self._deaths = Counter(
            "coe_engine_deaths", "Engines that died after they had started", ["family"], registry=registry
        )
        self._starting: set[str] = set()
        self._begin()

    def _begin(self) -> None:
        for tier in TIERS:
            self._hits.begin(tier)
        for left in itertools.product(("device", "host"), DOWN):
            self._evictions.begin(*left)

    def observe(self, observation: Observation) -> None:
        """Counts an event of the tier manager."""
        match observation:
            case LeaseGranted(expert, tier, seconds):  # first what comes with each request
                self._queue_seconds.observe(seconds, tier)
                self._hits.inc(tier)
                self._actuations.inc(expert, PATHS[tier])
                self._tickets.inc(expert, "granted")
            case LeaseEnded(_, seconds):
                self._lease_seconds.observe(seconds)
            case MoveDone():
                self._moved(observation)
            case Displaced(_, reason, age_s):
                self._left("device", reason, age_s)
            case TicketEnded(expert, outcome):
                self._tickets.inc(expert, outcome)
            case EngineChanged():
                self._engine_changed(observation)
            case _:
                assert_never(observation)

    def _moved(self, move: MoveDone) -> None:
        self._move_seconds.observe(move.seconds, move.source, move.target, move.reason, move.outcome)
        self._move_bytes.observe(move.bytes, move.source, move.target, move.outcome)
        self._from_nodes.inc(by=move.bytes_from_nodes)
        if move.outcome == "done" and move.age_s is not None:
            self._left(move.source, move.reason, move.age_s)

    def _left(self, tier: Tier, reason: MoveReason, age_s: float) -> None:
        self._evictions.inc(tier, reason)
        self._ages.observe(age_s, tier, reason)

    def _engine_changed(self, change: EngineChanged) -> None:
        family = change.family
        self._deaths.begin(family)
        starting = family in self._starting
        self._starting.discard(family)
        match change.state:
            case "starting":
                self._starting.add(family)
            case "ready" if not starting:
                self._wake_seconds.observe(change.seconds, family)
            case "ready":
                self._start_seconds.observe(change.seconds, family, "done")
            case "dead" if starting:
                self._start_seconds.observe(change.seconds, family, "failed")
            case "dead":
                self._deaths.inc(family)
            case "stopped" | "asleep":
                pass
            case _:
                assert_never(change.state)
