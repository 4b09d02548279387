"""Prometheus series of the gateway. Label values are closed sets or names from the configuration."""

from collections.abc import Mapping
from typing import Protocol

from prometheus_client import CollectorRegistry, Gauge

from experts.engines.engine import EngineStatistics
from memory_tiers.driver.manager import TierManager
from router.composition import Arm, RoutedBy
from router.decision import Decision
from router.mapping.traffic_shares import Drift
from server.metrics.counter import Counter
from server.metrics.exposition import exposition
from server.metrics.feedback import FeedbackMetrics
from server.metrics.histogram import Histogram
from server.metrics.picker_snapshot import PickerSnapshot
from server.metrics.tier_snapshot import TierSnapshot
from server.metrics.tiers import WAITS, TierMetrics

DECISIONS = (0.001, 0.005, 0.025, 0.1)


class RequestMetrics(Protocol):
    """Counts requests: ``Metrics``, in this process or in another."""

    def request_done(self, expert: str, outcome: str, seconds: float) -> None: ...

    def first_bytes(self, expert: str, seconds: float) -> None: ...

    def decided(self, composition: str, decision: Decision, by: RoutedBy, arm: Arm = "") -> None: ...


class Metrics:
    """Every series, kept in a registry of its own so that several gateways can live in one process.
    ``docs/reference/metrics.md`` lists them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._requests = Counter(
            "coe_requests",
            "Requests ended, by HTTP status or client_left; no expert where none was chosen",
            ["expert", "outcome"],
            registry=registry,
        )
        self._request_seconds = Histogram(
            "coe_request_seconds", "From request to last byte", [], buckets=WAITS, registry=registry
        )
        self._first_bytes = Histogram(
            "coe_first_bytes_seconds",
            "From request to the engine's first bytes",
            ["expert"],
            buckets=WAITS,
            registry=registry,
        )
        self._decisions = Counter(
            "coe_route_decisions",
            "Prompts that a router decided; by says what chose the expert, as x-coe-routed-by does",
            ["composition", "category", "expert", "uncertain", "by"],
            registry=registry,
        )
        self._drift = Gauge(
            "coe_route_drift",
            "Part of the last 1,000 decisions that are of other categories than in training, from 0 to 1",
            ["composition"],
            registry=registry,
        )
        self._drifts: dict[str, Drift] = {}
        self._trials = Counter(
            "coe_route_trials",
            "Decisions at which the canary's map names another expert, by the map that was followed",
            ["composition", "arm"],
            registry=registry,
        )
        self._route_seconds = Histogram(
            "coe_route_seconds",
            "Seconds of one routing decision",
            ["composition"],
            buckets=DECISIONS,
            registry=registry,
        )
        self._breaker_open = Gauge(
            "coe_breaker_open",
            "1 while the expert, or its engine, is not asked because it failed too often",
            ["expert"],
            registry=registry,
        )
        self._disk_free = Gauge(
            "coe_disk_free_ratio",
            "Free share of the disk of state and of store, from 0 to 1",
            ["folder"],
            registry=registry,
        )
        self.feedback = FeedbackMetrics(registry)
        self.tiers = TierMetrics(registry)
        self._snapshot = TierSnapshot(registry)
        self._for_pickers = PickerSnapshot(registry)

    def request_done(self, expert: str, outcome: str, seconds: float) -> None:
        self._requests.inc(expert, outcome)
        self._request_seconds.observe(seconds)

    def first_bytes(self, expert: str, seconds: float) -> None:
        self._first_bytes.observe(seconds, expert)

    def decided(self, composition: str, decision: Decision, by: RoutedBy, arm: Arm = "") -> None:
        uncertain = str(decision.uncertain).lower()
        self._decisions.inc(composition, decision.category, decision.expert, uncertain, by)
        self._route_seconds.observe(decision.seconds, composition)
        if composition in self._drifts:
            self._drifts[composition].add(decision.category)
        if arm:
            self._trials.inc(composition, arm)

    def expect(self, shares: Mapping[str, Mapping[str, float]]) -> None:
        """Takes each composition's shares of categories, from which traffic may drift. Those whose shares
        stay go on counting."""
        before = self._drifts
        self._drifts = {
            name: before[name] if name in before and before[name].expected == each else Drift(each)
            for name, each in shares.items()
        }

    async def text(
        self,
        tiers: TierManager,
        statistics: Mapping[str, EngineStatistics],
        breakers: Mapping[str, bool],
        disks: Mapping[str, float],
    ) -> bytes:
        """Returns Prometheus text, as of now. ``statistics``: of the engines that answer. ``breakers``:
        expert to whether its breaker is open. ``disks``: free share of the disk of each folder."""
        self._snapshot.take(tiers, statistics)
        self._for_pickers.take(tiers, statistics)
        self._drift.clear()
        for name, drift in self._drifts.items():
            if (value := drift.value) is not None:
                self._drift.labels(name).set(value)
        self._breaker_open.clear()
        for expert, is_open in breakers.items():
            self._breaker_open.labels(expert).set(is_open)
        for folder, free in disks.items():
            self._disk_free.labels(folder).set(free)
        return await exposition(self._registry)
