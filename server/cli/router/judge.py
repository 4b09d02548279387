"""What ``coe router judge`` does: counts, asks for leave, judges, writes, and shows what came of it."""

import argparse
import asyncio
import sys

from router.clients.http_chat_client import HttpChat
from router.clients.openai_endpoint import Endpoint
from router.data.dataset import read_examples
from router.judging.judge import Judged, Plan, judge, sample
from router.judging.judge_cost import Price, bill
from router.judging.judged_file import write_judged
from router.judging.reply_cache import KeptChat, ReplyFile
from router.judging.win_rates import report, scores
from server.cli.progress import Bars
from server.cli.router.judge_tables import foreseen, spent, win_rates
from server.cli.tiers.tables import console
from server.config.settings import SettingsError


def judge_prompts(options: argparse.Namespace) -> int:
    """Raises SettingsError, RouterError; then there is no new ``--out``, and replies so far are kept."""
    _check(options)
    answers = Endpoint.at(options.answers_url, "COE_ANSWERS_KEY")
    verdicts = Endpoint.at(options.judge_url, "COE_JUDGE_KEY")
    price = None if options.price_in is None else Price(options.price_in, options.price_out)
    plan = _plan(options)
    shown = console()
    kept = options.out.with_name(f"{options.out.name}.replies")
    with ReplyFile(kept) as replies:
        expected = bill(plan, replies)
        shown.print(*foreseen(plan, expected, price), sep="\n")
        if expected.answers.missing or expected.verdicts.missing:
            _ask_leave(options.yes)
        try:
            judged, used = asyncio.run(_judge(options, plan, answers, verdicts, replies))
        except BaseException:
            if len(replies):
                print(f"{len(replies)} replies are kept in {kept}: the same command goes on", file=sys.stderr)
            raise
        scored = scores(judged.pairs, plan.reference)
        write_judged(options.data, options.out, plan.experts, scored)
        rates = win_rates(plan, report(judged.pairs, scored), judged)
        shown.print(*rates, spent(used, price), sep="\n")
    print(f"wrote {options.out}: scores for {len(scored):,} of {len(plan.examples):,} prompts")
    return 0


async def _judge(
    options: argparse.Namespace, plan: Plan, answers: Endpoint, verdicts: Endpoint, replies: ReplyFile
) -> tuple[Judged, KeptChat]:
    """Also the judge as it was asked, which knows what it used."""
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


def _plan(options: argparse.Namespace) -> Plan:
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


def _ask_leave(given: bool) -> None:
    """Raises SettingsError when it is not given."""
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
