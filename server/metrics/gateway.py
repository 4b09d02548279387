"""Prometheus series of the gateway. Label values are closed sets or names from the configuration."""

from collections.abc import Mapping
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from experts.engines.engine import EngineStatistics
from memory_tiers.driver.manager import TierManager
from memory_tiers.observations import Observation
from router.composition import RoutedBy
from router.decision import Decision
from server.metrics.feedback import FeedbackMetrics
from server.metrics.tier_snapshot import TierSnapshot
from server.metrics.tiers import SECONDS, TierMetrics


class Metrics:
    """Every series, kept in a registry of its own so that several gateways can live in one process.
    ``docs/operations.md`` says what each means."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._requests = Counter(
            "coe_requests", "Requests ended, by HTTP status or client_left", ["expert", "outcome"],
            registry=registry,
        )  # fmt: skip
        self._request_seconds = Histogram(
            "coe_request_seconds", "From request to last byte", ["expert"], buckets=SECONDS, registry=registry
        )
        self._first_bytes = Histogram(
            "coe_first_bytes_seconds", "From request to the engine's first bytes", ["expert"],
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self._decisions = Counter(
            "coe_route_decisions", "Routed prompts", ["composition", "category", "expert", "uncertain", "by"],
            registry=registry,
        )  # fmt: skip
        self._route_seconds = Histogram(
            "coe_route_seconds", "Seconds one decision takes", ["composition"], buckets=SECONDS,
            registry=registry,
        )  # fmt: skip
        # What each request counts: looked up once.
        self._requests_of, self._first_bytes_of = (
            cache(self._requests.labels),
            cache(self._first_bytes.labels),
        )
        self._request_seconds_of = cache(self._request_seconds.labels)
        self._breaker_open = Gauge(
            "coe_breaker_open", "1 while an expert or its engine failed too often to be asked", ["expert"],
            registry=registry,
        )  # fmt: skip
        self.feedback = FeedbackMetrics(registry)
        self._tiers = TierMetrics(registry)
        self._snapshot = TierSnapshot(registry)

    def request_done(self, expert: str, outcome: str, seconds: float) -> None:
        self._requests_of(expert, outcome).inc()
        self._request_seconds_of(expert).observe(seconds)

    def first_bytes(self, expert: str, seconds: float) -> None:
        self._first_bytes_of(expert).observe(seconds)

    def decided(self, composition: str, decision: Decision, by: RoutedBy) -> None:
        uncertain = str(decision.uncertain).lower()
        self._decisions.labels(composition, decision.category, decision.expert, uncertain, by).inc()
        self._route_seconds.labels(composition).observe(decision.seconds)

    def observe(self, observation: Observation) -> None:
        """Counts what the tier manager saw."""
        self._tiers.observe(observation)

    def text(
        self,
        tiers: TierManager,
        statistics: Mapping[str, EngineStatistics],
        breakers: Mapping[str, bool],
    ) -> bytes:
        """Prometheus text, as things are now. ``statistics``: of the engines that answer. ``breakers``:
        expert to whether its breaker is open."""
        self._snapshot.take(tiers, statistics)
        self._breaker_open.clear()
        for expert, is_open in breakers.items():
            self._breaker_open.labels(expert).set(is_open)
        return generate_latest(self._registry)
