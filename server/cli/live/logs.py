"""``coe logs``: lines of the gateway's log and of its engines', and those that follow."""

import argparse
import time
from urllib.parse import quote

from pydantic import TypeAdapter

from server.cli.arguments import Parent, add_operator_verb, positive
from server.cli.live.state import LogLine, LogPart
from server.cli.operator_client import OperatorClient
from server.cli.tiers.tables import line
from server.cli.tiers.verbs import client_of

GATEWAY = "gateway"
EVERY_S = 0.5
"""Seconds between two looks for new lines."""
_PART = TypeAdapter(LogPart)


def add_to(parent: Parent) -> None:
    made = add_operator_verb(parent, "logs", logs, "a running gateway's log, and its engines'")
    made.add_argument(
        "sources", nargs="*", metavar="SOURCE", help="gateway, or an engine's family; all by default"
    )
    made.add_argument("-f", "--follow", action="store_true", help="go on with new lines until Ctrl-C")
    made.add_argument(
        "--level", choices=("info", "warning", "error"), default="info", help="the least; info by default"
    )
    made.add_argument("-n", "--lines", type=positive, default=50, help="the latest of each; 50 by default")


def logs(options: argparse.Namespace) -> int:
    with client_of(options) as client:
        try:
            _print(client, options)
        except KeyboardInterrupt:
            return 0
    return 0


def _print(client: OperatorClient, options: argparse.Namespace) -> None:
    """Prints what there is, and then what comes. A log that begins later is followed too."""
    after: dict[str, int] = {}
    while True:
        known = options.sources or part(client, GATEWAY, options.level, 0).sources
        for source in known:
            found = part(client, source, options.level, after.get(source, 0))
            shown = found.lines if source in after else found.lines[-options.lines :]
            for each in shown:
                print(written(each, source if len(known) > 1 else ""))
            after[source] = found.next
        if not options.follow:
            return
        time.sleep(EVERY_S)


def part(client: OperatorClient, source: str, level: str, after: int) -> LogPart:
    """Asks for the lines of a log ``after`` an earlier part's ``next``. Raises OperatorError."""
    return client.ask(f"/v1/coe/logs?source={quote(source, safe='')}&level={level}&after={after}", _PART)


def written(each: LogLine, source: str) -> str:
    """Writes a line as it is, of a gateway's with its time and level. ``source``: shown before it, if any."""
    before = f"{source}: " if source else ""
    if each.at is None:
        return before + line(each.text)
    at = time.strftime("%H:%M:%S", time.localtime(each.at))
    first, *more = each.text.splitlines() or [""]
    said = [f"{before}{at} {each.level} {each.logger} {line(first)}"]
    return "\n".join([*said, *(f"{before}  {text.expandtabs()}" for text in more if text.isprintable())])
