"""Prometheus series of how the tiers and engines are now, taken when somebody scrapes them."""

from collections.abc import Mapping
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge

from experts.engines.engine import EngineState, EngineStatistics
from memory_tiers.driver.manager import TierManager
from server.metrics.tiers import TIERS

ENGINE_STATES: tuple[EngineState, ...] = get_args(EngineState)


class Followed:
    """A counter that follows a count kept elsewhere. A count smaller than before began anew at zero."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._seen: dict[tuple[str, ...], float] = {}

    def __repr__(self) -> str:
        return f"<Followed {self._seen}>"

    def follow(self, count: float, *labels: str) -> None:
        """It is ``count`` now."""
        before = self._seen.get(labels, 0.0)
        self._counter.labels(*labels).inc(count - before if count >= before else count)
        self._seen[labels] = count


class TierSnapshot:
    """Gauges have the experts and families that are configured now, and no others."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, meaning: str, *labels: str) -> Gauge:
            return Gauge(name, meaning, labels, registry=registry)

        def followed(name: str, meaning: str, *labels: str) -> Followed:
            return Followed(Counter(name, meaning, labels, registry=registry))

        moving = ("expert", "from_tier", "to_tier", "reason")
        self._used = gauge("coe_tier_used_bytes", "Bytes charged to a tier", "tier")
        self._reserved = gauge("coe_tier_reserved_bytes", "The part that is still on its way", "tier")
        self._capacity = gauge("coe_tier_capacity_bytes", "Budget of a tier", "tier")
        self._expert_tier = gauge(
            "coe_expert_tier", "1 at the fastest tier that holds the expert", "expert", "tier"
        )
        self._leases = gauge("coe_leases", "Leases held now", "expert")
        self._waiting = gauge("coe_waiting", "Tickets that wait now", "expert")
        self._moving_seconds = gauge("coe_moving_seconds", "Seconds since a move under way began", *moving)
        self._moving_done = gauge("coe_moving_done", "How much of it is done, from 0 to 1", *moving)
        self._engine_state = gauge("coe_engine_state", "1 at the state", "family", "state")
        self._running = gauge("coe_engine_requests", "Requests the engine holds", "family")
        self._switches = followed("coe_engine_switches", "Switches between experts", "family")
        self._switch_seconds = followed("coe_engine_switch_seconds", "Seconds of those", "family")
        self._busy_seconds = followed("coe_engine_busy_seconds", "Seconds of steps and switches", "family")
        self._bound_hits = followed("coe_wait_bound_hits", "How often max_wait_s was waited", "family")
        self._prefetches = followed(
            "coe_prefetches", "Prefetched copies that were used, or left unused", "tier", "outcome"
        )

    def take(self, tiers: TierManager, statistics: Mapping[str, EngineStatistics]) -> None:
        """``statistics``: of the engines that answer."""
        self._take_tiers(tiers)
        self._take_experts(tiers)
        self._take_moves(tiers)
        self._take_engines(tiers, statistics)

    def _take_tiers(self, tiers: TierManager) -> None:
        for usage in tiers.usage():
            self._used.labels(usage.tier).set(usage.used_bytes)
            self._reserved.labels(usage.tier).set(usage.reserved_bytes)
            if usage.capacity_bytes is not None:
                self._capacity.labels(usage.tier).set(usage.capacity_bytes)
        prefetches = tiers.tally().prefetches
        for tier in ("device", "host"):
            for outcome in ("used", "wasted"):
                self._prefetches.follow(prefetches.get((tier, outcome), 0), tier, outcome)

    def _take_experts(self, tiers: TierManager) -> None:
        for gauge in (self._expert_tier, self._leases, self._waiting):
            gauge.clear()
        for status in tiers.status():
            self._leases.labels(status.expert).set(status.leases)
            self._waiting.labels(status.expert).set(status.waiting)
            for tier in TIERS:
                self._expert_tier.labels(status.expert, tier).set(status.tier == tier)

    def _take_moves(self, tiers: TierManager) -> None:
        self._moving_seconds.clear()
        self._moving_done.clear()
        for move in tiers.progress():
            labels = (move.expert, move.source, move.target, move.reason)
            self._moving_seconds.labels(*labels).set(move.seconds)
            if move.done is not None:
                self._moving_done.labels(*labels).set(move.done)

    def _take_engines(self, tiers: TierManager, statistics: Mapping[str, EngineStatistics]) -> None:
        self._engine_state.clear()
        self._running.clear()
        for engine in tiers.readiness.engines:
            self._bound_hits.follow(engine.bound_hits, engine.family)
            for state in ENGINE_STATES:
                self._engine_state.labels(engine.family, state).set(engine.state == state)
        for family, counted in statistics.items():
            self._running.labels(family).set(counted.running)
            self._switches.follow(counted.switches, family)
            self._switch_seconds.follow(counted.switch_seconds, family)
            if counted.busy_seconds is not None:
                self._busy_seconds.follow(counted.busy_seconds, family)
