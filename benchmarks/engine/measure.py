"""``coe bench engine``: tokens/s and time to first token of interleaved experts, beside other ways.

In one run, on one machine: one engine for all experts; one expert alone on it; plain vLLM that drains and
swaps; a plain vLLM process for each expert, all awake or, on GPUs, one by vLLM's sleep mode, or all with
kvcached; llama-cpp-python's server.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.engine.closed_loop import run
from benchmarks.engine.drain_then_swap import DrainThenSwap
from benchmarks.engine.figures import figures
from benchmarks.engine.interleaved import Interleaved
from benchmarks.engine.kvcached import Kvcached
from benchmarks.engine.llama_cpp import LlamaCpp
from benchmarks.engine.processes import Processes
from benchmarks.engine.report import Notes, Report, Setting
from benchmarks.engine.rival import INTERLEAVED, Rival, gpu_bytes_of
from benchmarks.engine.sleep_and_wake import SleepAndWake
from benchmarks.engine.workload import Cell, Plan, Question
from experts.checkpoints.sources.embedded import installed_base
from experts.errors import CheckpointMissing, ExpertsError
from experts.spec import Expert
from server.config.settings import Settings, SettingsError
from server.routing.catalog import open_experts

Progress = Callable[[str, int, int], None]


async def measure(
    settings: Settings, plan: Plan, progress: Progress, python: Path | None = None, model: Path | None = None
) -> Report:
    """``python`` and ``model``: as in ``LlamaCpp``.

    Raises SettingsError on a plan that cannot be and without a family that interleaves, ExpertsError when the
    interleaved engine fails. A rival that fails is reported as not measured.
    """
    if (problem := plan.problem()) is not None:
        raise SettingsError(problem)
    load_average = os.getloadavg()[0]
    experts, repeated = _experts(settings, max(plan.counts()))
    family = experts[0].family
    config, logs = settings.families[family], settings.logs / "bench"
    gpu_bytes = gpu_bytes_of(config)
    ours = Interleaved(family, config, logs)
    rivals = (
        ours,
        DrainThenSwap(family, config, logs),
        SleepAndWake(family, config, logs),
        Processes(family, config, logs, gpu_bytes=gpu_bytes),
        Kvcached(family, config, logs, gpu_bytes=gpu_bytes),
        LlamaCpp(python, model or _embedded_model(), config.context, logs),
    )
    measurement = Measurement(plan, experts, rivals, progress)
    await measurement.run()
    setting = Setting(
        family=family,
        mode=config.mode,
        dtype=ours.dtype,
        cores=os.cpu_count() or 1,
        load_average=load_average,
        max_num_seqs=config.max_num_seqs or 0,
        switch_overhead=config.switch_overhead,
        experts=tuple(expert.name for expert in experts),
        repeated=repeated,
    )
    return measurement.notes.report(setting, plan)


class Measurement:
    """Rivals one after another, each from few experts to many; what it finds is in ``notes``."""

    def __init__(
        self, plan: Plan, experts: Sequence[Expert], rivals: Sequence[Rival], progress: Progress
    ) -> None:
        self.notes = Notes()
        self._plan = plan
        self._experts = experts
        self._rivals = rivals
        self._progress = progress
        self._stage = ""
        self._answers = 0

    async def run(self) -> None:
        for repetition in range(self._plan.repeat):
            for rival in self._rivals:
                self._stage = f"{rival.name}, {repetition + 1} of {self._plan.repeat}"
                after = self._answers + self._expected(rival)
                self._tell()
                try:
                    await self._rival(rival, repetition)
                finally:
                    await rival.stop()
                self._answers = after  # whether it gave them or not
        self._tell()

    async def _rival(self, rival: Rival, repetition: int) -> None:
        for count in self._counts(rival):
            experts = self._experts[:count]
            reason = rival.unfit(experts)
            try:
                if reason is None:
                    await self._with(experts, rival, repetition)
            except ExpertsError as error:
                if rival.name == INTERLEAVED:
                    raise
                reason = str(error).partition("\n")[0]
            if reason is not None:
                self.notes.reasons[rival.name, count] = reason

    async def _with(self, experts: Sequence[Expert], rival: Rival, repetition: int) -> None:
        """All cells of so many experts."""
        await rival.hold(experts)
        names = [expert.name for expert in experts]
        tokens = self._plan.tokens
        for name in names:  # pages and kernels of a first answer are new
            await rival.serve(Question(name, f"{repetition} {len(names)} warm up"), tokens)
        for cell in self._cells(rival, len(names)):
            questions = self._plan.questions(cell, names, str(repetition))
            found = figures(await run(rival, questions, cell.streams, tokens, self._answered))
            self.notes.runs.setdefault((rival.name, cell), []).append(found)
        self.notes.held[rival.name, len(names)] = rival.memory_bytes()

    def _counts(self, rival: Rival) -> list[int]:
        return [count for count in self._plan.counts() if count >= rival.fewest]

    def _cells(self, rival: Rival, experts: int) -> list[Cell]:
        return self._plan.cells(experts, same_batches=rival.name == INTERLEAVED)

    def _expected(self, rival: Rival) -> int:
        cells = [cell for count in self._counts(rival) for cell in self._cells(rival, count)]
        return sum(cell.streams for cell in cells) * self._plan.requests

    def _answered(self) -> None:
        self._answers += 1
        self._tell()

    def _tell(self) -> None:
        total = self._plan.repeat * sum(self._expected(rival) for rival in self._rivals)
        self._progress(self._stage, self._answers, total)


def _experts(settings: Settings, count: int) -> tuple[list[Expert], tuple[str, ...]]:
    """So many experts of one family; too few of them are repeated under other names, which costs an engine as
    much as different ones."""
    prepared = list(open_experts(settings).values())
    for family, config in settings.families.items():
        members = [expert for expert in prepared if expert.family == family]
        if config.mode in ("interleaved", "simulated") and config.task == "generate" and members:
            copies = [
                replace(
                    members[number % len(members)], name=f"{members[number % len(members)].name}-{number}"
                )
                for number in range(len(members), count)
            ]
            return (members + copies)[:count], tuple(copy.name for copy in copies)
    raise SettingsError("coe bench engine needs a family with mode interleaved and a prepared expert")


def _embedded_model() -> Path | None:
    try:
        return installed_base()
    except CheckpointMissing:
        return None
