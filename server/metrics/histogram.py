"""Histogram with a series for each combination of labels that was observed, and for no other."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate
from math import inf

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

AT_A_TIME = 25
"""Combinations of labels in one piece of a family, which is collected without a pause."""


class _Observed:
    """Observations with one combination of labels. ``counts``: of each bucket by itself, the last one
    has no bound."""

    __slots__ = ("counts", "total")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * buckets
        self.total = 0.0


class Histogram(Collector):
    """Histogram for one thread. prometheus_client's creates all series of a combination as soon as it is
    named, and one more for its creation time, and collects all of them at once."""

    def __init__(
        self,
        name: str,
        meaning: str,
        labels: Sequence[str],
        *,
        buckets: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        """``buckets``: upper bounds, the smallest first."""
        self._name, self._meaning, self._labels = name, meaning, tuple(labels)
        self._bounds = tuple(buckets)
        self._written: list[str] = [*map(floatToGoString, (*buckets, inf))]
        self._observed: dict[tuple[str, ...], _Observed] = {}
        registry.register(self)

    def observe(self, value: float, *labels: str) -> None:
        """Counts a value. ``labels``: the values, in the order of the names."""
        observed = self._observed.get(labels)
        if observed is None:
            assert len(labels) == len(self._labels), labels
            observed = self._observed[labels] = _Observed(len(self._written))
        observed.counts[bisect_left(self._bounds, value)] += 1
        observed.total += value

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Yields the family in pieces of the same name, or without samples where nothing was observed."""
        if not self._observed:
            yield self._family()
        combinations = [*self._observed.items()]
        for start in range(0, len(combinations), AT_A_TIME):
            family = self._family()
            for labels, observed in combinations[start : start + AT_A_TIME]:
                counts = zip(self._written, accumulate(observed.counts), strict=True)
                family.add_metric(labels, [*counts], observed.total)
            yield family

    def _family(self) -> HistogramMetricFamily:
        return HistogramMetricFamily(self._name, self._meaning, labels=self._labels)

    def __repr__(self) -> str:
        return f"<Histogram {self._name} of {len(self._observed)} combinations>"
