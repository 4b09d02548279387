"""Prometheus series of the gateway. Label values are closed sets or names from the configuration."""

from typing import assert_never

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from experts.engine import EngineStatistics
from memory_tiers.manager import TierManager
from memory_tiers.observations import (
    EngineChanged,
    LeaseEnded,
    LeaseGranted,
    MoveDone,
    Observation,
    TicketEnded,
)
from router.decision import Decision

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
ENGINE_STATES = ("stopped", "starting", "ready", "dead")
TIERS = ("device", "host", "disk")


class Metrics:
    """Every series, kept in a registry of its own so that several gateways can live in one process."""

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
            "coe_route_decisions", "Routed prompts", ["composition", "category", "expert", "uncertain"],
            registry=registry,
        )  # fmt: skip
        self._route_seconds = Histogram(
            "coe_route_seconds", "Seconds one decision takes", ["composition"], buckets=SECONDS,
            registry=registry,
        )  # fmt: skip
        self._queue_seconds = Histogram(
            "coe_lease_wait_seconds", "From ticket to lease, by where the expert was", ["expert", "tier"],
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self._lease_seconds = Histogram(
            "coe_lease_seconds", "From grant to release", ["expert"], buckets=SECONDS, registry=registry
        )
        self._leases = Gauge("coe_leases", "Leases held now", ["expert"], registry=registry)
        self._tickets = Counter(
            "coe_tickets", "Tickets ended, by outcome", ["expert", "outcome"], registry=registry
        )
        self._move_seconds = Histogram(
            "coe_move_seconds", "Seconds of one move", ["from_tier", "to_tier", "reason", "outcome"],
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self._move_bytes = Counter(
            "coe_move_bytes", "Bytes moved", ["from_tier", "to_tier", "reason", "outcome"], registry=registry
        )
        self._tier_used = Gauge("coe_tier_used_bytes", "Bytes charged to a tier", ["tier"], registry=registry)
        self._tier_capacity = Gauge(
            "coe_tier_capacity_bytes", "Budget of a tier", ["tier"], registry=registry
        )
        self._expert_tier = Gauge(
            "coe_expert_tier", "1 at the fastest tier that holds the expert", ["expert", "tier"],
            registry=registry,
        )  # fmt: skip
        self._engine_state = Gauge(
            "coe_engine_state", "1 at the state", ["family", "state"], registry=registry
        )
        self._engine_deaths = Counter("coe_engine_deaths", "Engines that died", ["family"], registry=registry)
        self._switches = Gauge(
            "coe_engine_switches", "Switches since the engine started", ["family"], registry=registry
        )
        self._switch_seconds = Gauge(
            "coe_engine_switch_seconds", "Seconds of those switches", ["family"], registry=registry
        )
        self._busy_seconds = Gauge(
            "coe_engine_busy_seconds", "Seconds of steps, switches included", ["family"], registry=registry
        )
        self._running = Gauge(
            "coe_engine_requests", "Requests the engine holds", ["family"], registry=registry
        )

    def request_done(self, expert: str, outcome: str, seconds: float) -> None:
        self._requests.labels(expert, outcome).inc()
        self._request_seconds.labels(expert).observe(seconds)

    def first_bytes(self, expert: str, seconds: float) -> None:
        self._first_bytes.labels(expert).observe(seconds)

    def decided(self, composition: str, decision: Decision) -> None:
        uncertain = str(decision.uncertain).lower()
        self._decisions.labels(composition, decision.category, decision.expert, uncertain).inc()
        self._route_seconds.labels(composition).observe(decision.seconds)

    def observe(self, observation: Observation) -> None:
        """Counts what the tier manager saw."""
        match observation:
            case MoveDone(source=source, target=target, reason=reason, outcome=outcome):
                labels = (source, target, reason, outcome)
                self._move_seconds.labels(*labels).observe(observation.seconds)
                self._move_bytes.labels(*labels).inc(observation.bytes)
            case LeaseGranted(expert=expert, tier=tier, queue_seconds=seconds):
                self._queue_seconds.labels(expert, tier).observe(seconds)
                self._leases.labels(expert).inc()
            case LeaseEnded(expert=expert, seconds=seconds):
                self._lease_seconds.labels(expert).observe(seconds)
                self._leases.labels(expert).dec()
            case TicketEnded(expert=expert, outcome=outcome):
                self._tickets.labels(expert, outcome).inc()
            case EngineChanged(family=family, state=state):
                for each in ENGINE_STATES:
                    self._engine_state.labels(family, each).set(each == state)
                if state == "dead":
                    self._engine_deaths.labels(family).inc()
            case _:
                assert_never(observation)

    def engine(self, family: str, statistics: EngineStatistics) -> None:
        """Takes over an engine's own counters."""
        self._switches.labels(family).set(statistics.switches)
        self._switch_seconds.labels(family).set(statistics.switch_seconds)
        if statistics.busy_seconds is not None:
            self._busy_seconds.labels(family).set(statistics.busy_seconds)
        self._running.labels(family).set(statistics.running)

    def tiers(self, manager: TierManager) -> None:
        """Takes over where every expert is and how full each tier is."""
        for usage in manager.usage():
            self._tier_used.labels(usage.tier).set(usage.used_bytes)
            if usage.capacity_bytes is not None:
                self._tier_capacity.labels(usage.tier).set(usage.capacity_bytes)
        for status in manager.status():
            for tier in TIERS:
                self._expert_tier.labels(status.expert, tier).set(status.tier == tier)

    def text(self) -> bytes:
        return generate_latest(self._registry)
