"""Renders the reference of metrics from the Prometheus registry of a gateway."""

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics import MetricWrapperBase

from scripts.reference.tables import table
from server.metrics.gateway import Metrics

LABELLED = GaugeMetricFamily | CounterMetricFamily | HistogramMetricFamily

HEAD = """# Metrics

`GET /metrics` is Prometheus' text format. Counters and histograms count from the gateway's start; gauges are
read when they are asked for. Label values are closed sets or names from the configuration. Counters whose
labels are all closed sets exist from the start with 0; a histogram has a series once something was observed.
The gauges of an expert or a family that is no longer configured disappear; its counters stay.
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
    """Returns the page: one row for each series."""
    rows = [
        (f"`{one.name}`", one.kind, ", ".join(f"`{label}`" for label in one.labels), one.meaning)
        for one in sorted(series(), key=lambda one: one.name)
    ]
    return HEAD + "\n" + table(["series", "kind", "labels", "meaning"], rows)


def series() -> Iterator[Series]:
    """Yields the series that a gateway registers."""
    registry = CollectorRegistry()
    Metrics(registry)
    for metric in registry.collect():
        labelled = registry._names_to_collectors.get(metric.name, metric)
        assert isinstance(labelled, MetricWrapperBase | LABELLED)
        name = metric.name + ("_total" if metric.type == "counter" else "")
        yield Series(name, metric.type, tuple(labelled._labelnames), metric.documentation)
