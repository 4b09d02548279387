"""Prometheus series of how the tiers and engines are now, collected when they are scraped."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import get_args

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from experts.engines.engine import EngineState, EngineStatistics
from experts.errors import MemoryUnknown
from memory_tiers.driver.manager import TierManager
from memory_tiers.gpu_memory import used_here
from memory_tiers.status import EngineStatus, ExpertStatus, GpuStatus, MoveProgress, TierStatus
from server.metrics.tiers import TIERS

ENGINE_STATES: tuple[EngineState, ...] = get_args(EngineState)
MOVING_DONE = (
    "Share of a move that is done, from 0 to 1: of its bytes from disk to the host, else of the time that "
    "such moves took before, at most 0.99; absent where none was measured"
)
MOVING = ("expert", "from_tier", "to_tier", "reason")
Labels = tuple[str, ...]


class Followed:
    """Counts that are kept elsewhere, by labels. One that is smaller than before began anew at zero."""

    def __init__(self) -> None:
        self.totals: dict[Labels, float] = {}
        self._seen: dict[Labels, float] = {}

    def __repr__(self) -> str:
        return f"<Followed {self.totals}>"

    def follow(self, count: float, *labels: str) -> None:
        """Adds the increase since the last call. ``count``: the total now."""
        before = self._seen.get(labels, 0.0)
        more = count - before if count >= before else count
        self.totals[labels] = self.totals.get(labels, 0.0) + more
        self._seen[labels] = count


class TierSnapshot(Collector):
    """Has the experts and families that were configured when it was taken, and no others."""

    def __init__(self, registry: CollectorRegistry, used_here: Callable[[], list[int]] = used_here) -> None:
        """``used_here``: asks the driver what is used of each GPU; only where GPUs have budgets."""
        self._used_here = used_here
        self._gpus: tuple[GpuStatus, ...] = ()
        self._gpus_used: list[int] = []
        self._usage: tuple[TierStatus, ...] = ()
        self._experts: tuple[ExpertStatus, ...] = ()
        self._moves: Mapping[Labels, MoveProgress] = {}
        self._engines: tuple[EngineStatus, ...] = ()
        self._running: Mapping[Labels, int] = {}
        self._kv_used: Mapping[Labels, float] = {}
        self._switches = Followed()
        self._switch_seconds = Followed()
        self._busy_seconds = Followed()
        self._bound_hits = Followed()
        self._prefetches = Followed()
        registry.register(self)

    def __repr__(self) -> str:
        return f"<TierSnapshot of {len(self._experts)} experts, {len(self._engines)} engines>"

    def take(self, tiers: TierManager, statistics: Mapping[str, EngineStatistics]) -> None:
        """``statistics``: of the engines that answer."""
        self._usage, self._experts = tiers.usage(), tiers.status()
        self._gpus = tiers.gpus()
        with contextlib.suppress(MemoryUnknown):  # what is charged is known all the same
            self._gpus_used = self._used_here() if self._gpus else []
        self._moves = {
            (move.expert, move.source, move.target, move.reason): move for move in tiers.progress()
        }
        self._engines = tiers.readiness.engines
        self._running = {(family,): counted.running for family, counted in statistics.items()}
        self._kv_used = {
            (family,): counted.kv_used
            for family, counted in statistics.items()
            if counted.kv_used is not None
        }
        for family, counted in statistics.items():
            self._switches.follow(counted.switches, family)
            self._switch_seconds.follow(counted.switch_seconds, family)
            if counted.busy_seconds is not None:
                self._busy_seconds.follow(counted.busy_seconds, family)
        for engine in self._engines:
            self._bound_hits.follow(engine.bound_hits, engine.family)
        prefetches = tiers.prefetches()
        for tier in ("device", "host"):
            for outcome in ("used", "wasted"):
                self._prefetches.follow(prefetches.get((tier, outcome), 0), tier, outcome)

    def collect(self) -> Iterator[Metric]:
        yield from self._tier_families()
        yield from self._move_families()
        yield from self._engine_families()

    def _tier_families(self) -> Iterator[Metric]:
        tier, expert = ("tier",), ("expert",)
        used = [((each.tier,), each.used_bytes) for each in self._usage]
        yield _gauge("coe_tier_used_bytes", "Bytes charged to a tier", tier, used)
        reserved = [((each.tier,), each.reserved_bytes) for each in self._usage]
        yield _gauge(
            "coe_tier_reserved_bytes",
            "The part of the charged bytes that is still on its way",
            tier,
            reserved,
        )
        capacity = [
            ((each.tier,), each.capacity_bytes) for each in self._usage if each.capacity_bytes is not None
        ]
        yield _gauge(
            "coe_tier_capacity_bytes", "Budget of a tier; absent where there is none", tier, capacity
        )
        yield from self._gpu_families()
        tiers = [((each.expert, tier), each.tier == tier) for each in self._experts for tier in TIERS]
        meaning = "1 at the fastest tier that holds the expert, 0 at the others"
        yield _gauge("coe_expert_tier", meaning, ("expert", "tier"), tiers)
        leases = [((each.expert,), each.leases) for each in self._experts]
        yield _gauge("coe_leases", "Leases held now", expert, leases)
        waiting = [((each.expert,), each.waiting) for each in self._experts]
        yield _gauge("coe_waiting", "Tickets that wait now", expert, waiting)

    def _gpu_families(self) -> Iterator[Metric]:
        gpu = ("gpu",)
        charged = [((str(each.number),), each.used_bytes) for each in self._gpus]
        yield _gauge("coe_gpu_charged_bytes", "Bytes charged to a GPU for experts and adapters", gpu, charged)
        budgets = [((str(each.number),), each.capacity_bytes) for each in self._gpus]
        yield _gauge("coe_gpu_budget_bytes", "Budget of a GPU for experts and adapters", gpu, budgets)
        used = [((str(number),), used) for number, used in enumerate(self._gpus_used)]
        meaning = "Bytes of a GPU that are used, by any process and for anything, as its driver says"
        yield _gauge("coe_gpu_memory_used_bytes", meaning, gpu, used)

    def _move_families(self) -> Iterator[Metric]:
        seconds = [(labels, move.seconds) for labels, move in self._moves.items()]
        yield _gauge(
            "coe_moving_seconds", "Seconds since a move began; only while it is under way", MOVING, seconds
        )
        done = [(labels, move.done) for labels, move in self._moves.items() if move.done is not None]
        yield _gauge("coe_moving_done", MOVING_DONE, MOVING, done)

    def _engine_families(self) -> Iterator[Metric]:
        family = ("family",)
        states = [
            ((engine.family, state), engine.state == state)
            for engine in self._engines
            for state in ENGINE_STATES
        ]
        yield _gauge(
            "coe_engine_state",
            "1 at stopped, asleep, starting, ready or dead, 0 at the others",
            ("family", "state"),
            states,
        )
        yield _gauge(
            "coe_engine_requests",
            "Requests the engine holds; absent while it does not answer",
            family,
            self._running.items(),
        )
        yield _gauge(
            "coe_engine_kv_used_ratio",
            "Share of an engine's KV cache that requests under way use, from 0 to 1",
            family,
            self._kv_used.items(),
        )
        for name, meaning, counts in (
            ("coe_engine_switches", "Switches from one expert to another", self._switches),
            (
                "coe_engine_switch_seconds",
                "Seconds of switches from one expert to another",
                self._switch_seconds,
            ),
            (
                "coe_engine_busy_seconds",
                "Seconds of all steps, switches included; absent for plain vLLM",
                self._busy_seconds,
            ),
            (
                "coe_wait_bound_hits",
                "Waits of tiers.max_wait_s for an expert, which then came first",
                self._bound_hits,
            ),
        ):
            yield _counter(name, meaning, family, counts)
        meaning = "Prefetched copies that were used, or that left unused: wasted"
        yield _counter("coe_prefetches", meaning, ("tier", "outcome"), self._prefetches)


def _gauge(
    name: str, meaning: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], float]]
) -> Metric:
    family = GaugeMetricFamily(name, meaning, labels=labels)
    for each, value in values:
        family.add_metric(each, value)
    return family


def _counter(name: str, meaning: str, labels: Sequence[str], counts: Followed) -> Metric:
    family = CounterMetricFamily(name, meaning, labels=labels)
    for each, total in counts.totals.items():
        family.add_metric(each, total)
    return family
