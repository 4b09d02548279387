"""The common part of ``coe eval``: contestants at one endpoint, a judge at another, replies kept between
runs."""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from server.cli.arguments import Parent, add_verb, positive
from server.cli.output import console, write_json
from server.cli.progress import Bars
from server.cli.router.judge import ask_leave
from server.cli.router.sizes import sizes
from server.config.settings import SettingsError

if TYPE_CHECKING:
    from rich.table import Table

    from router.clients.chat_client import Chat
    from router.clients.openai_endpoint import Endpoint
    from router.judging.calls import Calls
    from router.judging.contest import Answers
    from router.judging.questions import Question
    from router.judging.reply_cache import ReplyFile
    from router.progress import Progress

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Contest:
    """A contest in work: who is asked what, through which clients."""

    contestants: tuple[str, ...]
    questions: "tuple[Question, ...]"
    answering: "Chat"
    judging: "Chat"
    answers: "Calls"
    verdicts: "Calls"
    options: argparse.Namespace
    progress: "Progress"

    async def answers_of(self, contestants: Sequence[str]) -> "Answers":
        """Asks contestants all questions. Raises EndpointError, JudgingError."""
        from router.judging.contest import answers_of

        return await answers_of(
            contestants,
            self.questions,
            self.answering,
            self.answers,
            max_tokens=self.options.answer_tokens,
            concurrency=self.options.concurrency,
            progress=self.progress,
        )


@dataclass(frozen=True, slots=True)
class Sizes:
    """Billions of parameters by expert."""

    of: Mapping[str, float]

    def active(self, answers: "Answers", name: str) -> float | None:
        """Mean over a contestant's answers of the expert that gave each; None where one is not known."""
        from router.judging.contest import active_parameters

        return active_parameters(answers, name, self.of)

    def shown(self, answers: "Answers", name: str) -> str:
        active = self.active(answers, name)
        return "-" if active is None else f"{active:.3g}"


def add_contest(
    group: Parent, name: str, run: Callable[[argparse.Namespace], int], help_text: str
) -> argparse.ArgumentParser:
    made = add_verb(group, name, run, help_text, config=False)
    made.add_argument(
        "--questions", type=Path, required=True, metavar="FILE", help="the benchmark's question.jsonl"
    )
    made.add_argument(
        "--models",
        required=True,
        metavar="NAMES",
        help="contestants, comma-separated: compositions, such as coe or coe:31B, and experts",
    )
    made.add_argument(
        "--answers-url",
        required=True,
        metavar="URL",
        help="endpoint that serves them, such as a gateway; COE_ANSWERS_KEY has its key",
    )
    made.add_argument(
        "--judge-url", required=True, metavar="URL", help="the judge's endpoint; COE_JUDGE_KEY has its key"
    )
    made.add_argument("--judge-model", required=True, metavar="NAME", help="the model that judges")
    made.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="the figures as JSON; replies are kept beside it",
    )
    made.add_argument("--first", type=positive, metavar="N", help="questions to ask; all by default")
    made.add_argument(
        "--params", metavar="SIZES", help="experts' sizes, as for training; those that the endpoint tells"
    )
    made.add_argument(
        "--answer-tokens", type=positive, default=1024, metavar="N", help="at most, of an answer"
    )
    made.add_argument(
        "--verdict-tokens", type=positive, default=1024, metavar="N", help="at most, of a verdict"
    )
    made.add_argument("--concurrency", type=positive, default=8, metavar="N", help="calls at once")
    made.add_argument(
        "--requests-per-minute",
        type=float,
        metavar="N",
        help="at most, of each endpoint; no limit by default",
    )
    made.add_argument("--yes", action="store_true", help="start without asking")
    return made


def hold(
    options: argparse.Namespace,
    asked: "Callable[[Sequence[Question], Sequence[str]], tuple[int, int]]",
    run: "Callable[[Contest], Awaitable[Found]]",
) -> "tuple[Found, Contest, Sizes]":
    """Holds a contest. ``asked``: counts answers and verdicts. Returns what ``run`` found, the contest, and
    the experts' sizes.

    Raises SettingsError, RouterError; replies so far are kept.
    """
    from router.clients.openai_endpoint import Endpoint
    from router.judging.questions import read_questions
    from router.judging.reply_cache import ReplyFile

    contestants = tuple(name.strip() for name in options.models.split(","))
    if not all(contestants) or len(set(contestants)) < len(contestants):
        raise SettingsError(f"--models {options.models}: name each once")
    if options.requests_per_minute is not None and not options.requests_per_minute > 0:
        raise SettingsError(f"--requests-per-minute {options.requests_per_minute}: it must be over 0")
    if not options.out.absolute().parent.is_dir():
        raise SettingsError(f"--out {options.out}: there is no folder {options.out.absolute().parent}")
    given = {} if options.params is None else sizes("--params", options.params)
    questions = read_questions(options.questions)[: options.first]
    endpoints = (
        Endpoint.at(options.answers_url, "COE_ANSWERS_KEY"),
        Endpoint.at(options.judge_url, "COE_JUDGE_KEY"),
    )
    answers, verdicts = asked(questions, contestants)
    print(f"{len(questions)} questions: {answers:,} answers and {verdicts:,} verdicts, less those kept")
    ask_leave(options.yes)
    kept = options.out.with_name(f"{options.out.name}.replies")
    with ReplyFile(kept) as replies:
        try:
            found, contest, told = asyncio.run(
                _hold(options, contestants, questions, endpoints, replies, run)
            )
        except BaseException:
            if len(replies):
                print(f"{len(replies)} replies are kept in {kept}: the same command goes on", file=sys.stderr)
            raise
    return found, contest, Sizes({**told, **given})


def report(
    options: argparse.Namespace,
    contest: Contest,
    answers: "Answers",
    sizes: Sizes,
    shown: "Table",
    found: Mapping[str, Mapping[str, Any]],
) -> int:
    """Prints and writes what was found. Raises SettingsError where that is nothing."""
    said = _calls(contest)
    if not found:
        raise SettingsError("no question was judged for every contestant; " + "; ".join(said))
    questions = next(iter(found.values()))["questions"]
    console().print(shown, f"{questions:,} questions judged for every contestant", *said, sep="\n")
    write_json(
        options.out,
        {
            "judge": options.judge_model,
            "contestants": {
                name: {**figures, "active_parameters_b": sizes.active(answers, name)}
                for name, figures in found.items()
            },
        },
    )
    return 0


def _calls(contest: Contest) -> list[str]:
    """Says what came of the calls."""
    answers, verdicts = contest.answers, contest.verdicts
    cut = ", ".join(f"{count} of {name}" for name, count in answers.cut.items() if count)
    first = [*answers.first_refusal.values(), *verdicts.first_refusal.values()]
    return [
        f"answers cut at --answer-tokens: {cut or 'none'}",
        f"refused: {answers.refused.total()} answers, {verdicts.refused.total()} verdicts",
        f"replies of the judge without a verdict: {verdicts.readings[False]}",
        *(f"first refusal: {text}" for text in first),
    ]


async def _hold(
    options: argparse.Namespace,
    contestants: tuple[str, ...],
    questions: "tuple[Question, ...]",
    endpoints: "tuple[Endpoint, Endpoint]",
    replies: "ReplyFile",
    run: "Callable[[Contest], Awaitable[Found]]",
) -> "tuple[Found, Contest, Mapping[str, float]]":
    from router.clients.http_chat_client import HttpChat
    from router.judging.calls import Calls
    from router.judging.reply_cache import KeptChat

    bounds = {"concurrency": options.concurrency, "requests_per_minute": options.requests_per_minute}
    async with HttpChat(endpoints[0], **bounds) as answering, HttpChat(endpoints[1], **bounds) as judging:
        told = await answering.sizes()
        with Bars() as bars:
            contest = Contest(
                contestants,
                questions,
                KeptChat(answering, replies),
                KeptChat(judging, replies),
                Calls(),
                Calls(),
                options,
                bars.of("eval"),
            )
            return await run(contest), contest, told
