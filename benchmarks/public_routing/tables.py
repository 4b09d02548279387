"""The report of ``coe bench public-routing`` as a table for people."""

from rich.console import Console

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


def _percent(share: Estimate) -> str:
    return f"{share.value:.0f} [{share.low:.0f}, {share.high:.0f}]"
