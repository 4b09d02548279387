"""``coe eval mt-bench``: grades of 1 to 10 for each turn of conversations."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from server.cli.arguments import Parent
from server.cli.eval.contest import Contest, add_contest, hold, report

if TYPE_CHECKING:
    from router.judging.contest import Answers
    from router.judging.mt_bench import Grades
    from router.judging.questions import Question


def add_to(group: Parent) -> None:
    add_contest(group, "mt-bench", mt_bench, "grade answers in conversations of two turns from 1 to 10")


def mt_bench(options: argparse.Namespace) -> int:
    """Raises SettingsError, RouterError."""
    from router.judging.mt_bench import standings
    from server.cli.tables import table

    (answers, grades), contest, sizes = hold(options, _asked, _run)
    found = standings(contest.questions, contest.contestants, grades)
    numbers = ("active B", "grade", "95 %", "first turn", "later turns", "over the first one")
    shown = table("contestant", *numbers, numbers=numbers)
    for name, grade in found.items():
        over = grade.over_first
        shown.add_row(
            name,
            sizes.shown(answers, name),
            f"{grade.overall.value:.2f}",
            f"{grade.overall.low:.2f} to {grade.overall.high:.2f}",
            f"{grade.first_turn.value:.2f}",
            "-" if grade.later_turns is None else f"{grade.later_turns.value:.2f}",
            f"{over.value:+.2f} [{over.low:+.2f}, {over.high:+.2f}]",
        )
    graded = {name: asdict(grade) for name, grade in found.items()}
    return report(options, contest, answers, sizes, shown, graded)


def _asked(questions: "Sequence[Question]", contestants: Sequence[str]) -> tuple[int, int]:
    turns = sum(len(question.turns) for question in questions) * len(contestants)
    return turns, turns


async def _run(contest: Contest) -> "tuple[Answers, Grades]":
    from router.judging.mt_bench import grades_of

    answers = await contest.answers_of(contest.contestants)
    grades = await grades_of(
        contest.options.judge_model,
        contest.questions,
        contest.contestants,
        answers,
        contest.judging,
        contest.verdicts,
        max_tokens=contest.options.verdict_tokens,
        concurrency=contest.options.concurrency,
        progress=contest.progress,
    )
    return answers, grades
