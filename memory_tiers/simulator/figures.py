"""The figures of a simulated trace."""

from collections.abc import Sequence
from dataclasses import dataclass

from memory_tiers.simulator.simulation import TraceResult


@dataclass(frozen=True, slots=True)
class Spread:
    """The median, a high percentile and the maximum of some values."""

    p50: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one rival. ``hit_rate``: the share of requests whose expert was on the device and free
    for them on arrival. ``moves``: loads to the device. ``staged``: reads from disk to the host.
    ``switches``: answers that began for another expert than the answer before. ``wait_s``: until the lease.
    ``latency_s``: until the answer."""

    requests: int
    rejected: int
    hit_rate: float
    goodput_per_s: float
    """Answers, divided by the time from the first request to the last answer."""
    moves: int
    staged: int
    switches: int
    bytes_moved: int
    latency_s: Spread
    wait_s: Spread
    switch_seconds: float
    """Seconds that one expert takes from the host to the device, by the profile."""


def figures_of(result: TraceResult, switch_seconds: float) -> Figures:
    """Sums up the result of a trace."""
    served = result.served
    return Figures(
        requests=len(served) + result.rejected,
        rejected=result.rejected,
        hit_rate=sum(each.hit for each in served) / max(1, len(served)),
        goodput_per_s=len(served) / result.seconds if result.seconds else 0.0,
        moves=result.moves,
        staged=result.staged,
        switches=result.switches,
        bytes_moved=result.bytes_moved,
        latency_s=_spread([each.latency_s for each in served]),
        wait_s=_spread([each.wait_s for each in served]),
        switch_seconds=switch_seconds,
    )


def _spread(values: Sequence[float]) -> Spread:
    ordered = sorted(values) or [0.0]
    return Spread(_percentile(ordered, 0.5), _percentile(ordered, 0.99), ordered[-1])


def _percentile(ordered: Sequence[float], share: float) -> float:
    """Interpolates between two values."""
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
