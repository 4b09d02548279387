"""Counter with a series for each combination of labels that was counted, or is named from the start."""

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector


class Counter(Collector):
    """Counter for one thread. prometheus_client's takes a lock and makes several calls to add one, which
    costs a request more than its routing does."""

    def __init__(
        self, name: str, meaning: str, labels: Sequence[str], *, registry: CollectorRegistry
    ) -> None:
        self._name, self._meaning, self._labels = name, meaning, tuple(labels)
        self._counts: dict[tuple[str, ...], int] = {} if labels else {(): 0}
        registry.register(self)

    def begin(self, *labels: str) -> None:
        """Shows a combination from now on, so that a rate sees its first count."""
        self._counts.setdefault(labels, 0)

    def inc(self, *labels: str, by: int = 1) -> None:
        """Adds one, or ``by``. ``labels``: the values, in the order of the names."""
        try:
            self._counts[labels] += by
        except KeyError:
            assert len(labels) == len(self._labels), labels
            self._counts[labels] = by

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(self._name, self._meaning, labels=self._labels)
        for labels, count in [*self._counts.items()]:
            family.add_metric(labels, count)
        yield family

    def __repr__(self) -> str:
        return f"<Counter {self._name} of {len(self._counts)} combinations>"
