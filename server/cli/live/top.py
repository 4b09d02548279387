"""``coe top``: tiers, engines, experts, moves and requests of a running gateway, live."""

import argparse
import time
from collections.abc import Iterable, Iterator

from pydantic import TypeAdapter
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from server.cli.arguments import Parent, add_operator_verb, number
from server.cli.live.state import ExpertRow, Gateway, MoveRow, RequestRow, State
from server.cli.operator_client import OperatorClient
from server.cli.output import console
from server.cli.tables import table
from server.cli.tiers.tables import BAR, fill, line, size
from server.cli.tiers.verbs import client_of

_STATE = TypeAdapter(State)
FIXED = 16
"""Lines of a screen that tables take without their rows."""


def add_to(parent: Parent) -> None:
    help_text = "tiers, experts and requests of a running gateway, live until Ctrl-C"
    made = add_operator_verb(parent, "top", top, help_text)
    made.add_argument("--interval", type=number, default=1.0, metavar="SECONDS", help="between updates")
    made.add_argument("--once", action="store_true", help="show it once; the default if piped")


def top(options: argparse.Namespace) -> int:
    """Shows the state until it is interrupted."""
    shown = console()
    with client_of(options) as client:
        if options.once or not shown.is_terminal:
            shown.print(screen(look(client), None))
            return 0
        try:
            with Live(_fitting(client, shown), console=shown, screen=True, auto_refresh=False) as live:
                while True:
                    time.sleep(options.interval)
                    live.update(_fitting(client, shown), refresh=True)
        except KeyboardInterrupt:
            return 0


def look(client: OperatorClient) -> State:
    """Asks for the state as it is now. Raises OperatorError."""
    return client.ask("/v1/coe/snapshot", _STATE)


def _fitting(client: OperatorClient, shown: Console) -> Group:
    return screen(look(client), shown.height)


def screen(state: State, height: int | None) -> Group:
    """Returns the tables of a screen of ``height`` lines; None: as long as they are. Requests that have ended
    give way first, then experts that rest on disk."""
    gateway = next(iter(state.gateway.values()))
    experts = sorted(state.experts.items(), key=_rank)
    requests = sorted(state.requests.values(), key=lambda row: (row.ended, -row.began))
    if height is not None:
        room = max(4, height - FIXED - len(state.tiers) - len(state.engines) - len(state.moves))
        experts = experts[: max(3, room // 2)]
        requests = requests[: max(3, room - len(experts))]
    else:
        requests = requests[:20]
    parts: list[RenderableType] = [_headline(gateway, state), _tiers(state), _engines(state)]
    if state.moves:
        parts.append(_moves(state.moves.values()))
    left = len(state.experts) - len(experts)
    parts += [_experts(experts), *([f"and {left} experts more"] if left else []), _requests(requests, state)]
    return Group(*parts, *_failures(state))


def _headline(gateway: Gateway, state: State) -> Text:
    mood = "draining" if gateway.draining else "ready" if gateway.ready else "starting"
    up = time.strftime("%H:%M:%S", time.gmtime(max(0, state.at - gateway.started)))
    days = int(state.at - gateway.started) // 86400
    return Text(
        f"coe {gateway.version}  {mood}  up {f'{days} d ' if days else ''}{up}  requests {gateway.requests}  "
        f"waiting {gateway.waiting}",
        style="bold",
    )


def _tiers(state: State) -> Table:
    shown = table("tier", "used", "of", "", numbers=("used", "of"), wrapped="")
    for tier in state.tiers.values():
        of = "unlimited" if tier.capacity_bytes is None else size(tier.capacity_bytes)
        shown.add_row(tier.tier, size(tier.used_bytes), of, fill(tier))
    return shown


def _engines(state: State) -> Table:
    counts = ("requests", "switches", "starts")
    shown = table("engine", "state", "computes", *counts, numbers=counts, wrapped="computes")
    for family, engine in state.engines.items():
        shown.add_row(
            family,
            "rests" if engine.rests and engine.state != "asleep" else engine.state,
            (engine.active or "") if engine.running else "",
            _count(engine.running),
            _count(engine.switches),
            f"{engine.starts}",
        )
    return shown


def _moves(moves: Iterable[MoveRow]) -> Table:
    numbers = ("size", "GB/s", "left")
    shown = table("move", "from", "to", "why", *numbers, "", numbers=numbers, wrapped="")
    for move in moves:
        shown.add_row(
            move.expert,
            move.source,
            move.target,
            move.reason,
            size(move.bytes),
            "" if move.bytes_per_s is None else f"{move.bytes_per_s / 1e9:.2f}",
            "" if move.remaining_s is None else f"{move.remaining_s:.1f} s",
            "" if move.done is None else ProgressBar(1.0, move.done, BAR),
        )
    return shown


def _rank(named: tuple[str, ExpertRow]) -> tuple[int, int]:
    """Sorts experts by where they are, and the busy ones first."""
    _, expert = named
    tiers = {"device": 0, "host": 1}
    return tiers.get(expert.tier, 2) - (3 if expert.leases or expert.waiting else 0), -expert.leases


def _experts(experts: list[tuple[str, ExpertRow]]) -> Table:
    numbers = ("leases", "waiting", "size")
    shown = table("expert", "tier", *numbers, "state", numbers=numbers, wrapped="state")
    for name, expert in experts:
        marks = {
            "pinned": expert.pinned,
            "loading": "arriving" in (expert.device, expert.host),
            "leaving": "leaving" in (expert.device, expert.host),
            f"ordered to {expert.ordered}": expert.ordered is not None,
            "breaker open": expert.breaker_open,
            "failed": expert.failure != "",
        }
        said = ", ".join(mark for mark, holds in marks.items() if holds)
        sizes = size(expert.weights_bytes)
        shown.add_row(name, expert.tier, f"{expert.leases}", f"{expert.waiting}", sizes, said)
    return shown


def _requests(requests: list[RequestRow], state: State) -> Table:
    numbers = ("seconds", "tokens", "tokens/s")
    columns = ("request", "model", "expert", "why", "state", *numbers)
    shown = table(*columns, numbers=numbers, wrapped="request")
    for row in requests:
        seconds = sum(each[2] or 0.0 for each in row.phases) if row.ended else state.at - row.began
        why = row.by or ""
        if row.category is not None and row.confidence is not None:
            why = f"{row.category} {row.confidence:.2f}" + ("" if why == "map" else f", {why}")
        shown.add_row(
            line(row.id),
            line(row.model),
            row.expert,
            why,
            row.outcome if row.ended else row.state,
            f"{max(0.0, seconds):.1f}",
            f"{row.tokens_out}",
            "" if row.tokens_per_s is None else f"{row.tokens_per_s:.0f}",
        )
    return shown


def _failures(state: State) -> Iterator[str]:
    for family, engine in state.engines.items():
        if engine.detail:
            yield f"engine {family}: {line(engine.detail)[:200]}"
    for name, expert in state.experts.items():
        if expert.failure:
            yield f"{name}: {line(expert.failure)[:200]}"


def _count(value: int | None) -> str:
    return "" if value is None else f"{value}"
