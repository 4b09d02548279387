"""Series by which the endpoint pickers of llm-d and of Kubernetes' Gateway API choose a node, in vLLM's
names."""

import time
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from experts.engines.engine import EngineStatistics
from memory_tiers.driver.manager import TierManager
from memory_tiers.status import ExpertStatus


class PickerSnapshot(Collector):
    """Describes the gateway as if it were one vLLM server whose adapters are the experts."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float] = time.time) -> None:
        """``clock``: seconds since 1970."""
        self._clock = clock
        self._experts: tuple[ExpertStatus, ...] = ()
        self._kv_used: tuple[float, ...] = ()
        self._running = self._waiting = self._free = 0
        registry.register(self)

    def __repr__(self) -> str:
        return f"<PickerSnapshot of {len(self._experts)} experts>"

    def take(self, tiers: TierManager, statistics: Mapping[str, EngineStatistics]) -> None:
        """``statistics``: of the engines that answer."""
        counts = tiers.counts()
        self._experts, self._running, self._waiting = tiers.status(), counts.leases, counts.waiting
        device = tiers.usage()[0]
        self._free = (device.capacity_bytes or 0) - device.used_bytes
        used = (counted.kv_used for counted in statistics.values())
        self._kv_used = tuple(share for share in used if share is not None)

    def collect(self) -> Iterator[Metric]:
        yield _gauge("vllm:num_requests_running", "Requests that hold a lease", self._running)
        yield _gauge("vllm:num_requests_waiting", "Requests that wait for a lease", self._waiting)
        fullest = "Share of the KV cache in use, of the engine where it is largest; absent where none says it"
        if self._kv_used:
            yield _gauge("vllm:kv_cache_usage_perc", fullest, max(self._kv_used))
        yield self._experts_family()

    @property
    def _fits_another(self) -> bool:
        """Whether an expert that is not on the device would find room there."""
        return any(each.tier != "device" and each.weights_bytes <= self._free for each in self._experts)

    def _experts_family(self) -> Metric:
        labels = ("max_lora", "running_lora_adapters", "waiting_lora_adapters")
        meaning = "Experts on the device, and those that requests wait for; the value is the time"
        family = GaugeMetricFamily("vllm:lora_requests_info", meaning, labels=labels)
        resident = [each.expert for each in self._experts if each.tier == "device"]
        waiting = [each.expert for each in self._experts if each.waiting]
        places = len(resident) + self._fits_another
        family.add_metric([str(places), ",".join(resident), ",".join(waiting)], self._clock())
        return family


def _gauge(name: str, meaning: str, value: float) -> Metric:
    family = GaugeMetricFamily(name, meaning)
    family.add_metric([], value)
    return family
