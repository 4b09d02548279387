"""Report of ``coe bench engine``: the setting, the figures, and what was not measured."""

from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.engine.figures import Figures, Measured, Ratio, ratios
from benchmarks.engine.workload import Cell, Plan


@dataclass(frozen=True, slots=True)
class Setting:
    """Setting of the measurements. ``repeated``: experts that are another one's files under a new name."""

    family: str
    mode: str
    dtype: str
    cores: int
    load_average: float
    max_num_seqs: int
    switch_overhead: float
    experts: tuple[str, ...]
    repeated: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Held:
    """Memory of a rival's processes after its cells with so many experts; 0 where it has none."""

    rival: str
    experts: int
    bytes: int


@dataclass(frozen=True, slots=True)
class NotMeasured:
    rival: str
    experts: int
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """All figures of one run of the benchmark."""

    setting: Setting
    plan: Plan
    measured: tuple[Measured, ...]
    ratios: tuple[Ratio, ...]
    held: tuple[Held, ...]
    not_measured: tuple[NotMeasured, ...]

    def json(self) -> dict[str, Any]:
        return asdict(self) | {
            "measured": [asdict(each) | {"median": asdict(each.median)} for each in self.measured],
            "ratios": [asdict(each) | {"met": each.met} for each in self.ratios],
        }


class Notes:
    """Results so far, over all repetitions."""

    def __init__(self) -> None:
        self.runs: dict[tuple[str, Cell], list[Figures]] = {}
        self.held: dict[tuple[str, int], int] = {}
        self.reasons: dict[tuple[str, int], str] = {}

    def report(self, setting: Setting, plan: Plan) -> Report:
        measured = tuple(Measured(rival, cell, tuple(runs)) for (rival, cell), runs in self.runs.items())
        held = tuple(Held(rival, count, held) for (rival, count), held in self.held.items())
        missing = tuple(NotMeasured(rival, count, why) for (rival, count), why in self.reasons.items())
        return Report(setting, plan, measured, tuple(ratios(measured)), held, missing)
