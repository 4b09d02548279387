"""``coe bench engine``: tokens/s and time to first token of interleaved experts, beside other ways.

In one run, on one machine: one engine for all experts; one expert alone on it; plain vLLM that drains and
swaps; a plain vLLM process for each expert; llama-cpp-python's server.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.closed_loop import run
from benchmarks.drain_then_swap import DrainThenSwap
from benchmarks.figures import figures
from benchmarks.interleaved import Interleaved
from benchmarks.llama_cpp import LlamaCpp
from benchmarks.processes import Processes
from benchmarks.report import Notes, Report, Setting
from benchmarks.rival import INTERLEAVED, Rival
from benchmarks.workload import Plan, Question
from experts.errors import CheckpointMissing, ExpertsError
from experts.sources import installed_base
from experts.spec import Expert, FamilyConfig
from experts.vllm_command import installed_vllm
from server.services import open_experts
from server.settings import Settings, SettingsError

Progress = Callable[[str, int, int], None]


class Tally:
    """Answers so far, told to a progress bar."""

    def __init__(self, progress: Progress, stage: str, done: int, total: int) -> None:
        self._progress, self._stage, self._done, self._total = progress, stage, done, total
        progress(stage, done, total)

    def answered(self) -> None:
        self._done += 1
        self._progress(self._stage, self._done, self._total)


async def measure(
    settings: Settings, plan: Plan, progress: Progress, python: Path | None = None, model: Path | None = None
) -> Report:
    """Raises SettingsError without a family that interleaves, ExpertsError when its engine fails; a rival
    that fails is reported as not measured. ``python`` and ``model``: as in ``LlamaCpp``."""
    load_average = os.getloadavg()[0]
    experts, repeated = _experts(settings, max(plan.counts()))
    family = experts[0].family
    config, logs = settings.families[family], settings.logs / "bench"
    rivals: list[Rival] = [
        Interleaved(family, config, logs),
        DrainThenSwap(family, config, logs),
        Processes(family, config, logs),
        LlamaCpp(python, model or _embedded_model(), config.max_model_len, logs),
    ]
    notes, done, total = Notes(), 0, plan.repeat * sum(_requests(rival, plan) for rival in rivals)
    for repetition in range(plan.repeat):
        for rival in rivals:
            tally = Tally(progress, f"{rival.name}, {repetition + 1} of {plan.repeat}", done, total)
            try:
                await _measure(rival, experts, plan, repetition, notes, tally.answered)
            finally:
                await rival.stop()
            done += _requests(rival, plan)
    setting = Setting(
        family=family,
        mode=config.mode,
        dtype=_dtype(config),
        cores=os.cpu_count() or 1,
        load_average=load_average,
        max_num_seqs=config.max_num_seqs,
        quantum_steps=config.quantum_steps,
        experts=tuple(expert.name for expert in experts),
        repeated=repeated,
    )
    return notes.report(setting, plan)


async def _measure(
    rival: Rival,
    experts: Sequence[Expert],
    plan: Plan,
    repetition: int,
    notes: Notes,
    answered: Callable[[], None],
) -> None:
    """All cells of one rival, from few experts to many."""
    for count in plan.counts():
        if count < rival.fewest:
            continue
        chosen = experts[:count]
        reason = rival.unfit(chosen)
        try:
            if reason is None:
                await _with(rival, chosen, plan, repetition, notes, answered)
        except ExpertsError as error:
            if rival.name == INTERLEAVED:
                raise
            reason = str(error).partition("\n")[0]
        if reason is not None:
            notes.reasons[rival.name, count] = reason


async def _with(
    rival: Rival,
    experts: Sequence[Expert],
    plan: Plan,
    repetition: int,
    notes: Notes,
    answered: Callable[[], None],
) -> None:
    await rival.hold(experts)
    names = [expert.name for expert in experts]
    for name in names:  # pages and kernels of a first answer are new
        await rival.serve(Question(name, f"{repetition} {len(names)} warm up"), plan.tokens)
    for cell in plan.cells(len(names), same_batches=rival.name == INTERLEAVED):
        questions = plan.questions(cell, names, str(repetition))
        found = figures(await run(rival, questions, cell.streams, plan.tokens, answered))
        notes.runs.setdefault((rival.name, cell), []).append(found)
    notes.held[rival.name, len(names)] = rival.memory_bytes()


def _requests(rival: Rival, plan: Plan) -> int:
    counts = [count for count in plan.counts() if count >= rival.fewest]
    cells = [cell for count in counts for cell in plan.cells(count, same_batches=rival.name == INTERLEAVED)]
    return sum(cell.streams for cell in cells) * plan.requests


def _experts(settings: Settings, count: int) -> tuple[list[Expert], tuple[str, ...]]:
    """So many experts of one family; too few of them are repeated under other names, which costs an engine as
    much as different ones."""
    prepared = list(open_experts(settings).values())
    for family, config in settings.families.items():
        members = [expert for expert in prepared if expert.family == family]
        if config.mode != "plain" and members:
            copies = [
                replace(
                    members[number % len(members)], name=f"{members[number % len(members)].name}-{number}"
                )
                for number in range(len(members), count)
            ]
            return (members + copies)[:count], tuple(copy.name for copy in copies)
    raise SettingsError("coe bench engine needs a family with mode interleaved and a prepared expert")


def _dtype(config: FamilyConfig) -> str:
    vllm = installed_vllm()
    return "float32" if config.dtype == "auto" and vllm and vllm.platform == "cpu" else config.dtype


def _embedded_model() -> Path | None:
    try:
        return installed_base()
    except CheckpointMissing:
        return None
