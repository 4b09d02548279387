"""Output of ``coe tiers status`` and ``watch`` in a terminal: tiers, engines, experts and moves."""

from collections.abc import Iterator

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table

from memory_tiers.status import ExpertStatus, MoveProgress, TierStatus
from server.cli.tables import table
from server.operator_api import Snapshot

BAR = 24


def tables(snapshot: Snapshot) -> Group:
    """Returns the tables one below the other, and the failures; no table of moves where nothing moves."""
    shown = [_tiers(snapshot), _engines(snapshot), _experts(snapshot)]
    if snapshot.moves:
        shown.append(_moves(snapshot))
    return Group(*shown, *_failures(snapshot))


def _failures(snapshot: Snapshot) -> Iterator[str]:
    for engine in snapshot.engines:
        if engine.detail:
            yield f"engine {engine.family}: {line(engine.detail)}"
    for expert in snapshot.experts:
        if expert.failure:
            yield f"{expert.expert}: {line(expert.failure)}"


def _tiers(snapshot: Snapshot) -> Table:
    sizes = ("used", "on its way", "of")
    shown = table("tier", *sizes, "", numbers=sizes, wrapped="")
    for tier in snapshot.tiers:
        of = "unlimited" if tier.capacity_bytes is None else size(tier.capacity_bytes)
        shown.add_row(tier.tier, size(tier.used_bytes), size(tier.reserved_bytes), of, fill(tier))
    return shown


def fill(tier: TierStatus) -> ProgressBar | str:
    if not tier.capacity_bytes:
        return ""
    return ProgressBar(tier.capacity_bytes, min(tier.used_bytes, tier.capacity_bytes), width=BAR)


def _engines(snapshot: Snapshot) -> Table:
    counts = ("starts", "waited too long")
    shown = table("engine", "state", *counts, numbers=counts, wrapped="")
    for engine in snapshot.engines:
        state = "rests" if engine.rests and engine.state != "asleep" else engine.state
        shown.add_row(engine.family, state, f"{engine.starts}", f"{engine.bound_hits}")
    return shown


def _experts(snapshot: Snapshot) -> Table:
    numbers = ("leases", "waiting", "device", "host")
    shown = table("expert", "family", "tier", *numbers, "state", numbers=numbers, wrapped="state")
    for expert in snapshot.experts:
        shown.add_row(
            expert.expert,
            expert.family,
            expert.tier,
            f"{expert.leases}",
            f"{expert.waiting}",
            size(expert.device_bytes),
            size(expert.host_bytes),
            ", ".join(_marks(expert)),
        )
    return shown


def _marks(expert: ExpertStatus) -> list[str]:
    """Returns an expert's marks beside its tier."""
    marks = {
        "pinned": expert.pinned,
        "default": expert.default,
        "loading": expert.loading,
        "leaving": "leaving" in (expert.device, expert.host),
        f"ordered to {expert.ordered}": expert.ordered is not None,
        "image": expert.image,
        "failed": expert.failure != "",
    }
    return [mark for mark, holds in marks.items() if holds]


def _moves(snapshot: Snapshot) -> Table:
    numbers = ("size", "seconds", "left")
    shown = table("move", "from", "to", "why", *numbers, "", numbers=numbers, wrapped="")
    for move in snapshot.moves:
        shown.add_row(
            move.expert,
            move.source,
            move.target,
            move.reason,
            size(move.bytes),
            f"{move.seconds:.1f}",
            "" if move.remaining_s is None else f"{move.remaining_s:.1f}",
            _progress(move),
        )
    return shown


def _progress(move: MoveProgress) -> ProgressBar | str:
    return "" if move.done is None else ProgressBar(1.0, move.done, width=BAR)


def size(count: int) -> str:
    """Writes bytes in decimal units, as in the configuration."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}" if unit != "B" else f"{count} B"
        amount /= 1000
    return f"{amount:,.4g} TB"


def line(text: str) -> str:
    """Returns a message, which may be the end of a log, as one line without a terminal's control
    characters."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())
