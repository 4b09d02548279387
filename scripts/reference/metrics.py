"""Renders the reference of metrics from the Prometheus registry of a gateway."""

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from scripts.reference.tables import table
from server.metrics.gateway import Metrics

HEAD = """# Metrics

`GET /metrics` is Prometheus' text format. Counters and histograms count from the gateway's start; gauges
are read when they are asked for. Label values are closed sets or names from the configuration. Series whose
labels are all closed sets exist from the start with 0, except moves that were cancelled. The gauges of an
expert or a family that is no longer configured disappear; its counters stay.
[Monitoring](../guides/monitoring.md) has the values of labels and ready PromQL.
"""


@dataclass(frozen=True, slots=True)
class Series:
    """One series as PromQL names it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


def metrics() -> str:
    """The page: one row for each series."""
    rows = [
        (f"`{one.name}`", one.kind, ", ".join(f"`{label}`" for label in one.labels), one.meaning)
        for one in sorted(series(), key=lambda one: one.name)
    ]
    return HEAD + "\n" + table(["series", "kind", "labels", "meaning"], rows)


def series() -> Iterator[Series]:
    """What a gateway registers."""
    registry = CollectorRegistry()
    Metrics(registry)
    for metric in registry.collect():
        collector = registry._names_to_collectors[metric.name]
        assert isinstance(collector, MetricWrapperBase)
        name = metric.name + ("_total" if metric.type == "counter" else "")
        yield Series(name, metric.type, tuple(collector._labelnames), metric.documentation)
