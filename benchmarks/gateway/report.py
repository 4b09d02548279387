"""Report of ``coe bench gateway``: runs, their medians, and ratios beside their aims. Pure."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.engine.figures import Aim, Compared
from benchmarks.gateway.load import Kind, Latency, Outcome
from benchmarks.gateway.pinned import Cores
from benchmarks.gateway.proxy import PASS_THROUGH, VLLM_ROUTER

OURS = "gateway"
P50_MS = Aim("at most", 1.0)
P99_MS = Aim("at most", 5.0)
TO_PASS_THROUGH = Aim("at least", 3.0)
TO_VLLM_ROUTER = Aim("at least", 0.5)


@dataclass(frozen=True, slots=True)
class Plan:
    """Plan of the measurements. ``streams``: so many ask at once in the closed loop. ``share``: of the
    capacity, in the open loop. ``warming_s``: before each measurement, the same load that does not count."""

    kinds: tuple[Kind, ...]
    streams: tuple[int, ...]
    tokens: int
    seconds: float
    rounds: int
    share: float = 0.5
    warming_s: float = 0.5


@dataclass(frozen=True, slots=True)
class Setting:
    cores: int
    load_average: float
    pinned: Cores


@dataclass(frozen=True, slots=True)
class NotMeasured:
    subject: str
    reason: str


@dataclass(frozen=True, slots=True)
class Capacity:
    """Closed loop: all rounds of one subject, kind and number of streams."""

    subject: str
    kind: Kind
    streams: int
    runs: tuple[Outcome, ...]

    @property
    def per_second(self) -> float:
        return _median(self.runs, lambda run: run.per_second)

    @property
    def per_core(self) -> float | None:
        """Returns requests for each CPU second of the proxy; None where there is no proxy."""
        if not any(run.cpu_s["proxy"] for run in self.runs):
            return None
        return _median(self.runs, lambda run: run.requests / max(run.cpu_s["proxy"], 0.01))

    def busy(self, process: str) -> float:
        """Returns the cores that ``proxy``, ``engine`` or ``generator`` used."""
        return _median(self.runs, lambda run: run.cpu_s[process] / run.seconds)

    @property
    def last_p50_ms(self) -> float:
        return _median(self.runs, lambda run: run.last.p50)

    @property
    def failures(self) -> int:
        return sum(sum(run.failures.values()) for run in self.runs)


@dataclass(frozen=True, slots=True)
class Added:
    """Open loop: all rounds of one subject and kind, and beside each the same load without a proxy."""

    subject: str
    kind: Kind
    rate: float
    direct: tuple[Outcome, ...]
    through: tuple[Outcome, ...]

    @property
    def first(self) -> Latency:
        """Returns the added latency to the first byte, in milliseconds."""
        return self._added(lambda run: run.first)

    @property
    def last(self) -> Latency:
        return self._added(lambda run: run.last)

    @property
    def without(self) -> Latency:
        """Returns the latency to the last byte without a proxy."""
        return Latency(
            _median(self.direct, lambda run: run.last.p50), _median(self.direct, lambda run: run.last.p99)
        )

    @property
    def late_ms(self) -> float:
        return _median(self.through, lambda run: run.late_ms)

    @property
    def failures(self) -> int:
        return sum(sum(run.failures.values()) for run in (*self.direct, *self.through))

    def _added(self, of: Callable[[Outcome], Latency]) -> Latency:
        pairs = list(zip(self.direct, self.through, strict=True))
        return Latency(
            statistics.median(of(through).p50 - of(direct).p50 for direct, through in pairs),
            statistics.median(of(through).p99 - of(direct).p99 for direct, through in pairs),
        )


@dataclass(frozen=True, slots=True)
class Report:
    """All figures of one run of the benchmark."""

    setting: Setting
    plan: Plan
    capacities: tuple[Capacity, ...]
    added: tuple[Added, ...]
    not_measured: tuple[NotMeasured, ...]

    @property
    def compared(self) -> tuple[Compared, ...]:
        return tuple(self._compare())

    def best(self, subject: str, kind: Kind) -> Capacity | None:
        """Returns the capacity with the number of streams that gave most."""
        found = [each for each in self.capacities if (each.subject, each.kind) == (subject, kind)]
        return max(found, key=lambda each: each.per_second, default=None)

    def json(self) -> dict[str, Any]:
        return asdict(self) | {
            "capacities": [
                asdict(each) | {"per_second": each.per_second, "per_core": each.per_core}
                for each in self.capacities
            ],
            "added": [
                asdict(each) | {"first_ms": asdict(each.first), "last_ms": asdict(each.last)}
                for each in self.added
            ],
            "compared": [asdict(each) | {"met": each.met} for each in self.compared],
        }

    def _compare(self) -> Iterable[Compared]:
        for added in self.added:
            if added.subject == OURS:
                place = f"{added.kind}, at {added.rate:,.0f}/s: added to the last byte"
                yield Compared(f"{place}, p50 ms", added.last.p50, P50_MS)
                yield Compared(f"{place}, p99 ms", added.last.p99, P99_MS)
        for kind in self.plan.kinds:
            for rival, aim in ((PASS_THROUGH, TO_PASS_THROUGH), (VLLM_ROUTER, TO_VLLM_ROUTER)):
                ours, theirs = self.best(OURS, kind), self.best(rival, kind)
                if ours is None or theirs is None or ours.per_core is None or theirs.per_core is None:
                    continue
                yield Compared(f"{kind}, requests/s to {rival}", ours.per_second / theirs.per_second, aim)
                each = f"{kind}, requests/s of a core to {rival}"
                yield Compared(each, ours.per_core / theirs.per_core, aim)


def _median(runs: Sequence[Outcome], figure: Callable[[Outcome], float]) -> float:
    return statistics.median(map(figure, runs))
