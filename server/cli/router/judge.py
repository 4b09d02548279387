"""``coe router judge``: counts what it will ask, asks for leave, judges, writes and shows the scores."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from server.cli.arguments import Parent, add_verb
from server.cli.progress import Bars
from server.config.settings import SettingsError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from router.clients.openai_endpoint import Endpoint
    from router.judging.judge import Judged, Plan
    from router.judging.judge_cost import Bill, Price
    from router.judging.reply_cache import KeptChat, ReplyFile
    from router.judging.win_rates import JudgeReport


def add_to(router: Parent) -> None:
    help_text = "score prompts by comparing experts' answers with a judge"
    made = add_verb(router, "judge", judge_prompts, help_text, config=False)
    needed = made.add_argument_group("what is judged, and by whom")
    needed.add_argument("--data", type=Path, required=True, help="JSON lines with id, prompt (.gz too)")
    needed.add_argument("--experts", required=True, help="their names, comma-separated")
    needed.add_argument(
        "--answers-url",
        required=True,
        metavar="URL",
        help="endpoint that serves the experts by name, such as a gateway; COE_ANSWERS_KEY has its key",
    )
    needed.add_argument(
        "--judge-url", required=True, metavar="URL", help="the judge's endpoint; COE_JUDGE_KEY has its key"
    )
    needed.add_argument("--judge-model", required=True, metavar="NAME", help="the model that judges")
    needed.add_argument(
        "--out",
        type=Path,
        required=True,
        help="the prompts with scores (.gz too); replies are kept beside it",
    )
    made.add_argument(
        "--reference", metavar="EXPERT", help="compare each expert with this one; all pairs by default"
    )
    made.add_argument(
        "--per-category", type=int, metavar="N", help="prompts of each category; all by default"
    )
    made.add_argument("--answer-tokens", type=int, default=1024, metavar="N", help="at most, of an answer")
    made.add_argument("--verdict-tokens", type=int, default=512, metavar="N", help="at most, of a verdict")
    made.add_argument("--concurrency", type=int, default=8, metavar="N", help="calls at once")
    made.add_argument(
        "--requests-per-minute",
        type=float,
        metavar="N",
        help="at most, of each endpoint; no limit by default",
    )
    made.add_argument("--price-in", type=float, metavar="PRICE", help="of a million tokens the judge reads")
    made.add_argument("--price-out", type=float, metavar="PRICE", help="of a million tokens it writes")
    made.add_argument("--yes", action="store_true", help="start without asking")


def judge_prompts(options: argparse.Namespace) -> int:
    """Raises SettingsError, RouterError; then there is no new ``--out``, and replies so far are kept."""
    from router.clients.openai_endpoint import Endpoint
    from router.judging.judge_cost import Price, bill
    from router.judging.judged_file import write_judged
    from router.judging.reply_cache import ReplyFile
    from router.judging.win_rates import report, scores
    from server.cli.output import console

    _check(options)
    answers = Endpoint.at(options.answers_url, "COE_ANSWERS_KEY")
    verdicts = Endpoint.at(options.judge_url, "COE_JUDGE_KEY")
    price = None if options.price_in is None else Price(options.price_in, options.price_out)
    plan = _plan(options)
    shown = console()
    kept = options.out.with_name(f"{options.out.name}.replies")
    with ReplyFile(kept) as replies:
        expected = bill(plan, replies)
        shown.print(*_foreseen(plan, expected, price), sep="\n")
        if expected.answers.missing or expected.verdicts.missing:
            ask_leave(options.yes)
        try:
            judged, used = asyncio.run(_judge(options, plan, answers, verdicts, replies))
        except BaseException:
            if len(replies):
                print(f"{len(replies)} replies are kept in {kept}: the same command goes on", file=sys.stderr)
            raise
        scored = scores(judged.pairs, plan.reference)
        write_judged(options.data, options.out, plan.experts, scored)
        rates = _win_rates(plan, report(judged.pairs, scored), judged)
        shown.print(*rates, _spent(used, price), sep="\n")
    print(f"wrote {options.out}: scores for {len(scored):,} of {len(plan.examples):,} prompts")
    return 0


async def _judge(
    options: argparse.Namespace,
    plan: "Plan",
    answers: "Endpoint",
    verdicts: "Endpoint",
    replies: "ReplyFile",
) -> "tuple[Judged, KeptChat]":
    """Judges, and returns the judge as it was asked too, which knows what it used."""
    from router.clients.http_chat_client import HttpChat
    from router.judging.judge import judge
    from router.judging.reply_cache import KeptChat

    bounds = {"concurrency": options.concurrency, "requests_per_minute": options.requests_per_minute}
    async with HttpChat(answers, **bounds) as experts, HttpChat(verdicts, **bounds) as model:
        judging = KeptChat(model, replies)
        with Bars() as bars:
            judged = await judge(
                plan,
                KeptChat(experts, replies),
                judging,
                concurrency=options.concurrency,
                progress=bars.of("judge"),
            )
    return judged, judging


def _plan(options: argparse.Namespace) -> "Plan":
    from router.data.dataset import read_examples
    from router.judging.judge import Plan, sample

    experts = tuple(name.strip() for name in options.experts.split(","))
    if len(experts) < 2 or len(set(experts)) < len(experts) or not all(experts):
        raise SettingsError(f"--experts {options.experts}: name two or more, each once")
    if options.reference not in (None, *experts):
        raise SettingsError(f"--reference {options.reference} is not among --experts {options.experts}")
    return Plan(
        sample(read_examples(options.data), options.per_category),
        experts,
        options.judge_model,
        options.reference,
        options.answer_tokens,
        options.verdict_tokens,
    )


def _check(options: argparse.Namespace) -> None:
    counts = ("concurrency", "per_category", "answer_tokens", "verdict_tokens", "requests_per_minute")
    for name in counts:
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise SettingsError(f"--{name.replace('_', '-')} {value}: it must be over 0")
    prices = [price for price in (options.price_in, options.price_out) if price is not None]
    if len(prices) == 1 or any(not price >= 0 for price in prices):
        raise SettingsError("give --price-in and --price-out together, each 0 or more")
    folder = options.out.absolute().parent
    if not folder.is_dir():
        raise SettingsError(f"--out {options.out}: there is no folder {folder}")


def ask_leave(given: bool) -> None:
    """Asks whether to start. Raises SettingsError when the answer is no."""
    if given:
        return
    if not sys.stdin.isatty():
        raise SettingsError("nobody can be asked whether to start: add --yes")
    try:
        said = input("Start? [y/N] ")
    except EOFError:
        said = ""
    if said.strip().lower() not in ("y", "yes"):
        raise SettingsError("not started; nothing was asked")


def _foreseen(plan: "Plan", expected: "Bill", price: "Price | None") -> "Sequence[RenderableType]":
    """Shows what the run will ask for, before it starts."""
    from server.cli.tables import table

    counted = ("in all", "kept", "to make", "tokens in", "tokens out")
    calls = table("calls", *counted, numbers=counted)
    rows = (
        (f"answers of {len(plan.experts)} experts", expected.answers),
        (f"verdicts of {plan.judge}", expected.verdicts),
    )
    for name, made in rows:
        numbers = (made.all, made.all - made.missing, made.missing, made.tokens_in, made.tokens_out)
        calls.add_row(name, *(f"{number:,}" for number in numbers))
    asked = expected.verdicts
    cost = (
        "no price: --price-in and --price-out give the cost"
        if price is None
        else f"the verdicts cost about {price.of(asked.tokens_in, asked.tokens_out):,.2f}"
    )
    shown = f"{len(plan.examples):,} prompts, {len(plan.pairs)} pairs of experts each, both orders"
    estimate = "tokens are estimates, with every reply as long as it may be"
    return shown, calls, f"{cost}; {estimate}"


def _win_rates(plan: "Plan", report: "JudgeReport", judged: "Judged") -> "Sequence[RenderableType]":
    """Shows the win rates, and how far the judge can be believed."""
    from server.cli.tables import table

    counted = ("win rate", "95 % interval", "prompts", "answers cut", "refused")
    rates = table("expert", *counted, numbers=counted)
    for name in [*report.experts, *(name for name in plan.experts if name not in report.experts)]:
        won = report.experts.get(name)
        figures = ("-", "-", "0")
        if won is not None:
            figures = (
                f"{won.rate.value:.3f}",
                f"{won.rate.low:.3f} to {won.rate.high:.3f}",
                f"{won.prompts:,}",
            )
        rates.add_row(name, *figures, f"{judged.cut.get(name, 0):,}", f"{judged.refusals.get(name, 0):,}")
    missing = report.pairs - report.judged - report.same
    return (
        rates,
        f"pairs          {report.pairs:,}: {report.judged:,} judged, {report.same:,} of equal answers, "
        f"{missing:,} not judged",
        f"ties           {_share(report.ties, report.judged)} of the judged pairs",
        f"position bias  {_share(report.swayed, report.judged)} of the judged pairs changed their verdict "
        f"with the places; {report.favoured_first:,} of them chose the first place twice",
        f"no verdict     {report.unreadable:,} replies without one, {report.refused:,} refused calls, "
        f"{report.unanswered:,} pairs without both answers",
        *(f"first refusal  {said}" for said in judged.first_refusals),
    )


def _spent(judge: "KeptChat", price: "Price | None") -> str:
    used = f"{judge.tokens_in:,} tokens in, {judge.tokens_out:,} out"
    cost = "" if price is None else f", {price.of(judge.tokens_in, judge.tokens_out):,.2f}"
    return f"asked now      {judge.calls:,} verdicts: {used}{cost}"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%} ({part:,})" if whole else "none"
