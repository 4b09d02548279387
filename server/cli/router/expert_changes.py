"""``coe router add-expert``, ``replace-expert`` and ``remove-expert``: experts by their grades alone."""

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from server.cli.arguments import Parent, add_verb, positive
from server.cli.progress import Bars
from server.cli.router.graded import GRADED, add_artifact
from server.cli.router.judge import ask_leave
from server.cli.router.mapping import add_budgets, budgets, said, table_of
from server.cli.router.outputs import check_folder
from server.cli.router.sizes import parameters
from server.config.settings import SettingsError

if TYPE_CHECKING:
    from router.artifacts.artifact import Artifact
    from router.clients.openai_endpoint import Endpoint
    from router.data.dataset import Example
    from router.judging.judge import Plan
    from router.judging.reply_cache import ReplyFile
    from router.router import Router


def add_to(router: Parent) -> None:
    for verb, run, text in (
        ("add-expert", add_expert, "add an expert by its grades, without training again"),
        ("replace-expert", replace_expert, "put an expert in another one's place, by its grades"),
        ("remove-expert", remove_expert, "take an expert out of an artifact"),
    ):
        made = add_verb(router, verb, run, text, config=False)
        add_artifact(made)
        made.add_argument("--name", required=True, help="of the expert")
        if verb != "remove-expert":
            made.add_argument("--params", required=True, metavar="SIZE", help="of the expert, such as 8B")
            made.add_argument(
                "--data", type=Path, required=True, help=f"{GRADED}; with --judge-url prompts alone"
            )
            _add_judge(made)
        if verb == "replace-expert":
            made.add_argument("--of", required=True, metavar="EXPERT", help="the one that it replaces")
        add_budgets(made)
        made.add_argument("--out", type=Path, required=True, help="folder of the artifact that is made")


def _add_judge(made: argparse.ArgumentParser) -> None:
    group = made.add_argument_group("judge", "grades the expert against those that the map has now")
    group.add_argument("--judge-url", metavar="URL", help="the judge's endpoint; COE_JUDGE_KEY has its key")
    group.add_argument("--judge-model", metavar="NAME", help="the model that judges")
    group.add_argument(
        "--answers-url",
        metavar="URL",
        help="endpoint that serves all of them by name; COE_ANSWERS_KEY has its key",
    )
    group.add_argument(
        "--per-category", type=positive, default=50, metavar="N", help="prompts of each; 50 by default"
    )
    group.add_argument(
        "--answer-tokens", type=positive, default=1024, metavar="N", help="at most, of an answer"
    )
    group.add_argument(
        "--verdict-tokens", type=positive, default=512, metavar="N", help="at most, of a verdict"
    )
    group.add_argument("--concurrency", type=positive, default=8, metavar="N", help="calls at once")
    group.add_argument("--yes", action="store_true", help="start without asking")


def add_expert(options: argparse.Namespace) -> int:
    return _changed(options, None)


def replace_expert(options: argparse.Namespace) -> int:
    return _changed(options, options.of)


def remove_expert(options: argparse.Namespace) -> int:
    from router.artifacts.artifact import Artifact
    from router.training.expert_column import without_expert

    check_folder("--out", options.out)
    before = Artifact.read(options.artifact)
    _written(options, before, without_expert(before, options.name))
    return 0


def _changed(options: argparse.Namespace, replaced: str | None) -> int:
    from router.data.dataset import read_examples
    from router.router import Router
    from router.training.expert_column import with_expert, without_expert

    check_folder("--out", options.out)
    size, router = parameters("--params", options.params), Router.load(options.artifact)
    before, graded = router.artifact, read_examples(options.data)
    if _is_judged(options):
        graded = _judged(options, router, graded)
    if replaced is not None and replaced == options.name:  # a newer version of the same name
        router, replaced = router.with_artifact(without_expert(before, replaced)), None
    with Bars() as bars:
        made = with_expert(router, options.name, size, graded, bars.of("router"))
    if replaced is not None:
        made = without_expert(made, replaced)
    print(f"{options.name} answers {_written(options, before, made):.1%} of the prompts")
    return 0


def _is_judged(options: argparse.Namespace) -> bool:
    """Says whether a judge is asked. Raises SettingsError where it is not said which, or whom it judges."""
    given = [options.judge_url, options.judge_model, options.answers_url]
    if any(given) and not all(given):
        raise SettingsError("give --judge-url, --judge-model and --answers-url together")
    return all(given)


def _judged(options: argparse.Namespace, router: "Router", prompts: "Sequence[Example]") -> "list[Example]":
    """Scores the expert on a sample of each category by comparing it with the expert that the map has at
    each prompt. Replies are kept beside ``--out``. Raises SettingsError, RouterError."""
    from router.clients.openai_endpoint import Endpoint
    from router.judging.judge import Plan, sample
    from router.judging.reply_cache import ReplyFile

    decisions = {example.id: router.decide(example.prompt) for example in prompts}
    placed = [replace(example, category=decisions[example.id].category, scores={}) for example in prompts]
    by_incumbent: dict[str, list[Example]] = {}
    for example in sample(placed, options.per_category):
        by_incumbent.setdefault(decisions[example.id].expert, []).append(example)
    by_incumbent.pop(options.name, None)
    plans = [
        Plan(
            tuple(examples),
            (options.name, incumbent),
            options.judge_model,
            incumbent,
            options.answer_tokens,
            options.verdict_tokens,
        )
        for incumbent, examples in sorted(by_incumbent.items())
    ]
    count = sum(len(plan.examples) for plan in plans)
    for plan in plans:
        print(f"{len(plan.examples):,} prompts against {plan.reference}")
    print(f"{2 * count:,} answers and {2 * count:,} verdicts, less those kept")
    ask_leave(options.yes)
    answers = Endpoint.at(options.answers_url, "COE_ANSWERS_KEY")
    verdicts = Endpoint.at(options.judge_url, "COE_JUDGE_KEY")
    kept = options.out.with_name(f"{options.out.name}.replies")
    with ReplyFile(kept) as replies:
        scored = asyncio.run(_compared(options, plans, answers, verdicts, replies))
    return [
        replace(each, scores=scored[each.id]) for plan in plans for each in plan.examples if each.id in scored
    ]


async def _compared(
    options: argparse.Namespace,
    plans: "Sequence[Plan]",
    answers: "Endpoint",
    verdicts: "Endpoint",
    replies: "ReplyFile",
) -> "dict[str, dict[str, float]]":
    """Prompt's id to the scores of the expert and of the one that it was compared with."""
    from router.clients.http_chat_client import HttpChat
    from router.judging.judge import judge
    from router.judging.reply_cache import KeptChat
    from router.judging.win_rates import scores

    bounds, found = {"concurrency": options.concurrency}, dict[str, dict[str, float]]()
    async with HttpChat(answers, **bounds) as answering, HttpChat(verdicts, **bounds) as judging:
        with Bars() as bars:
            for plan in plans:
                judged = await judge(
                    plan,
                    KeptChat(answering, replies),
                    KeptChat(judging, replies),
                    concurrency=options.concurrency,
                    progress=bars.of("judge"),
                )
                found |= scores(judged.pairs, plan.reference)
    return found


def _written(options: argparse.Namespace, before: "Artifact", made: "Artifact") -> float:
    """Solves the map, writes the artifact, and returns the share of prompts that the expert gets. Without
    budgets a map may cost what the one before did."""
    from router.mapping.milp import Budgets

    given, table = budgets(options), table_of(options.artifact, made)
    if given == Budgets():
        given = Budgets(active=before.active_parameters)
    solution = made.solver(total=given.total, min_margin=options.min_margin).solve(given.active)
    made.with_solution(solution).write(options.out)
    print(f"wrote {options.out}")
    print("\n".join(said(solution)))
    shares = table.share_of()
    return float(sum(shares[row] for row, expert in solution.experts.items() if expert == options.name))
