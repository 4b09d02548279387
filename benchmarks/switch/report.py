"""Report of ``coe bench switch``: ways to an expert, the machine's limits, and ratios. Pure."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.engine.figures import Aim

SWITCH = "switch, by the worker's clock"
SWITCH_SEEN = "switch, as a request sees it"
CONVERTED = "host to device, converted"
IMAGE = "host to device, engine-format image"
COLD = "disk to host, page cache dropped"
CACHED = "disk to host, from the page cache"
START = "process start"
WARM_COPY = "limit: copy into warm memory"
FRESH_COPY = "limit: copy into fresh memory"
SHARED_COPY = "limit: write into fresh shared memory"
PINNED_COPY = "limit: copy from pinned memory to the GPU"
DIRECT_READ = "limit: dd with direct I/O"
ORDER = (
    *(SWITCH, SWITCH_SEEN, CONVERTED, IMAGE, COLD, CACHED, START),
    *(WARM_COPY, FRESH_COPY, SHARED_COPY, PINNED_COPY, DIRECT_READ),
)


@dataclass(frozen=True, slots=True)
class Row:
    """A way to bring an expert to compute, or a limit: seconds of each run, bytes that moved (0: none)."""

    name: str
    seconds: tuple[float, ...]
    bytes: int = 0

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def bytes_per_second(self) -> float | None:
        return self.bytes / self.median if self.bytes else None


@dataclass(frozen=True, slots=True)
class Compared:
    """A figure beside its aim, if it has one. ``value`` None: not measured."""

    what: str
    value: float | None
    aim: Aim | None

    @property
    def met(self) -> bool | None:
        return None if self.aim is None or self.value is None else self.aim.met(self.value)


@dataclass(frozen=True, slots=True)
class Report:
    """One run. ``still_cached``: the most bytes that were in the page cache although it had been dropped."""

    family: str
    mode: str
    dtype: str
    runs: int
    cores: int
    load_average: float
    still_cached: int
    rows: tuple[Row, ...]
    not_measured: Mapping[str, str]

    @property
    def compared(self) -> list[Compared]:
        return compare(self.rows)

    def json(self) -> dict[str, Any]:
        return asdict(self) | {
            "rows": [
                asdict(row) | {"median_s": row.median, "bytes_per_s": row.bytes_per_second}
                for row in self.rows
            ],
            "compared": [asdict(each) | {"met": each.met} for each in self.compared],
        }


def compare(rows: Sequence[Row]) -> list[Compared]:
    """Compares bandwidths, which is fair to images larger than the files they are made of. On a GPU an image
    comes over the bus, and a switch sets pointers."""
    table = {row.name: row for row in rows}

    def ratio(way: str, limit: str, aim: Aim | None = None) -> Compared:
        ours, theirs = (table[name].bytes_per_second if name in table else None for name in (way, limit))
        value = ours / theirs if ours is not None and theirs else None
        return Compared(f"{way} / {limit.removeprefix('limit: ')}", value, aim)

    switch = table[SWITCH].median * 1e3 if SWITCH in table else None
    over_bus = PINNED_COPY in table
    bus = [ratio(IMAGE, PINNED_COPY, Aim("at least", 0.8))] if over_bus else []
    return [
        Compared("a switch, in ms", switch, Aim("at most", 1 if over_bus else 3)),
        ratio(CONVERTED, WARM_COPY),
        *bus,
        ratio(IMAGE, WARM_COPY, None if over_bus else Aim("at least", 0.6)),
        ratio(IMAGE, FRESH_COPY),
        ratio(COLD, DIRECT_READ, Aim("at least", 0.8)),
        ratio(COLD, SHARED_COPY),
        ratio(CACHED, SHARED_COPY),
    ]
