"""The reports of ``coe bench public-routing`` as tables for people."""

from rich.console import Console

from benchmarks.public_routing.arena import ArenaReport
from benchmarks.public_routing.measure import Report
from router.mapping.metrics import Estimate
from server.cli.tables import table


def show(report: Report, console: Console | None = None) -> None:
    measures = ("prompts", "weak", "strong", "APGR", "CPT(50 %)", "CPT(80 %)", "of the oracle's lead")
    title = f"recovered of the gap between two models, five folds, {report.embedder}"
    shown = table("set", "order", *measures, numbers=measures, title=title)
    for name, orders in report.rows.items():
        for order, found in orders.items():
            shown.add_row(
                name,
                order,
                f"{found.prompts:,}",
                f"{found.weak:.1f}",
                f"{found.strong:.1f}",
                str(found.apgr),
                _percent(found.cpt50),
                _percent(found.cpt80),
                str(found.oracle_share),
            )
    (console or Console(width=max(140, Console().width))).print(shown)


def show_arena(report: ArenaReport, console: Console | None = None) -> None:
    console = console or Console(width=max(140, Console().width))
    measures = ("active B", "robustness", "entropy, bits", "commonest")
    title = f"decided alike on {report.altered} altered prompts, %"
    shown = table("by", *measures, numbers=measures, title=title)
    for each in report.robustness:
        shown.add_row(
            each.what,
            "" if each.active is None else f"{each.active:.1f}",
            f"{each.same.value:.1f} [{each.same.low:.1f}, {each.same.high:.1f}]",
            f"{each.entropy:.2f}",
            f"{100 * each.most:.0f} %",
        )
    console.print(shown)
    before, after = report.doubted
    console.print(f"doubted: {100 * before:.0f} % of the originals, {100 * after:.0f} % of the altered ones")
    gained, weak, strong = report.gained, report.weak, report.strong
    over = gained.over_mix
    console.print(
        f"{gained.prompts} graded prompts, {report.left_out} left out as the training has them\n"
        f"{strong.name}: {strong.score:.1f} at ${strong.cost:.3f} for a thousand prompts\n"
        f"{weak.name}: {weak.score:.1f} at ${weak.cost:.3f}; alone right on {report.only_weaker}\n"
        f"over as many calls by lot: {over.value:+.2f} [{over.low:+.2f}, {over.high:+.2f}] points, "
        f"APGR {gained.apgr}, {gained.oracle_share} of the oracle's lead",
        highlight=False,
    )


def _percent(share: Estimate) -> str:
    return f"{share.value:.0f} [{share.low:.0f}, {share.high:.0f}]"
