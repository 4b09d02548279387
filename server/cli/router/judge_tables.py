"""What judging will cost, what it cost, and who won."""

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table

from router.judging.judge import Judged, Plan
from router.judging.judge_cost import Bill, Price
from router.judging.reply_cache import KeptChat
from router.judging.win_rates import JudgeReport


def foreseen(plan: Plan, expected: Bill, price: Price | None) -> Sequence[RenderableType]:
    """Before it starts."""
    table = Table(*("calls", "in all", "kept", "to make", "tokens in", "tokens out"))
    rows = (
        (f"answers of {len(plan.experts)} experts", expected.answers),
        (f"verdicts of {plan.judge}", expected.verdicts),
    )
    for name, calls in rows:
        numbers = (calls.all, calls.all - calls.missing, calls.missing, calls.tokens_in, calls.tokens_out)
        table.add_row(name, *(f"{number:,}" for number in numbers))
    asked = expected.verdicts
    cost = (
        "no price: --price-in and --price-out give the cost"
        if price is None
        else f"the verdicts cost about {price.of(asked.tokens_in, asked.tokens_out):,.2f}"
    )
    shown = f"{len(plan.examples):,} prompts, {len(plan.pairs)} pairs of experts each, both orders"
    estimate = "tokens are estimates, with every reply as long as it may be"
    return shown, table, f"{cost}; {estimate}"


def win_rates(plan: Plan, report: JudgeReport, judged: Judged) -> Sequence[RenderableType]:
    """At its end."""
    table = Table("expert", "win rate", "95 % interval", "prompts", "answers cut", "refused")
    for name in [*report.experts, *(name for name in plan.experts if name not in report.experts)]:
        won = report.experts.get(name)
        figures = ("-", "-", "0")
        if won is not None:
            figures = (
                f"{won.rate.value:.3f}",
                f"{won.rate.low:.3f} to {won.rate.high:.3f}",
                f"{won.prompts:,}",
            )
        table.add_row(name, *figures, f"{judged.cut.get(name, 0):,}", f"{judged.refusals.get(name, 0):,}")
    missing = report.pairs - report.judged - report.same
    return (
        table,
        f"pairs          {report.pairs:,}: {report.judged:,} judged, {report.same:,} of equal answers, "
        f"{missing:,} not judged",
        f"ties           {_share(report.ties, report.judged)} of the judged pairs",
        f"position bias  {_share(report.swayed, report.judged)} of the judged pairs changed their verdict "
        f"with the places; {report.favoured_first:,} of them chose the first place twice",
        f"no verdict     {report.unreadable:,} replies without one, {report.refused:,} refused calls, "
        f"{report.unanswered:,} pairs without both answers",
        *(f"first refusal  {said}" for said in judged.first_refusals),
    )


def spent(judge: KeptChat, price: Price | None) -> str:
    used = f"{judge.tokens_in:,} tokens in, {judge.tokens_out:,} out"
    cost = "" if price is None else f", {price.of(judge.tokens_in, judge.tokens_out):,.2f}"
    return f"asked now      {judge.calls:,} verdicts: {used}{cost}"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%} ({part:,})" if whole else "none"
