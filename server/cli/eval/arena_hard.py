"""``coe eval arena-hard``: answers beside a baseline's, compared by a judge."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from server.cli.arguments import Parent
from server.cli.eval.contest import Contest, add_contest, hold, report
from server.config.settings import SettingsError

if TYPE_CHECKING:
    from router.judging.arena_hard import Battles
    from router.judging.contest import Answers
    from router.judging.questions import Question


def add_to(group: Parent) -> None:
    made = add_contest(group, "arena-hard", arena_hard, "compare answers with a baseline's")
    baseline = made.add_mutually_exclusive_group(required=True)
    baseline.add_argument(
        "--baseline", metavar="NAME", help="a model of the same endpoint, which answers too"
    )
    baseline.add_argument(
        "--baseline-answers", type=Path, metavar="FILE", help="its published answers, a file of model_answer"
    )


def arena_hard(options: argparse.Namespace) -> int:
    """Raises SettingsError, RouterError."""
    from router.judging.arena_hard import standings
    from router.judging.questions import read_answers
    from server.cli.tables import table

    published = None if options.baseline_answers is None else read_answers(options.baseline_answers)

    def asked(questions: "Sequence[Question]", contestants: Sequence[str]) -> tuple[int, int]:
        if options.baseline in contestants:
            raise SettingsError(f"--baseline {options.baseline} is among --models: it cannot meet itself")
        if published is not None and not published.keys() & {question.id for question in questions}:
            raise SettingsError(f"{options.baseline_answers} answers none of the questions: are they others?")
        players = len(contestants) + (published is None)
        return len(questions) * players, 2 * len(questions) * len(contestants)

    async def run(contest: Contest) -> "tuple[Answers, Battles]":
        return await _run(contest, published)

    (answers, battles), contest, sizes = hold(options, asked, run)
    found = standings(contest.questions, contest.contestants, battles)
    numbers = ("active B", "wins against the baseline, %", "95 %", "wins against the first one, %")
    shown = table("contestant", *numbers, numbers=numbers)
    for name, standing in found.items():
        rate, over = standing.over_baseline, standing.over_first
        shown.add_row(
            name,
            sizes.shown(answers, name),
            f"{rate.value:.1f}",
            f"{rate.low:.1f} to {rate.high:.1f}",
            f"{over.value:.1f} [{over.low:.1f}, {over.high:.1f}]",
        )
    judged = {name: asdict(standing) for name, standing in found.items()}
    return report(options, contest, answers, sizes, shown, judged)


async def _run(contest: Contest, published: Mapping[str, str] | None) -> "tuple[Answers, Battles]":
    from router.judging.arena_hard import battles_of

    answers = await contest.answers_of(contest.contestants)
    baseline = published
    if baseline is None:
        name = contest.options.baseline
        said = await contest.answers_of([name])
        baseline = {id: each.texts[0] for (_, id), each in said.items() if each.texts}
    battles = await battles_of(
        contest.options.judge_model,
        contest.questions,
        contest.contestants,
        answers,
        baseline,
        contest.judging,
        contest.verdicts,
        max_tokens=contest.options.verdict_tokens,
        concurrency=contest.options.concurrency,
        progress=contest.progress,
    )
    return answers, battles
